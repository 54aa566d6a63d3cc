"""Where messages of the package go: handlers of its own loggers, never the root logger's."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from eval.escaping import for_terminal

OURS = ("pfedmoap", "privacy", "eval")  # names of our loggers; those of methods' files are below


class _Lines(logging.Handler):
    """Writes ``warning: ...`` to what is standard error at that moment, as errors are written."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        try:
            text = for_terminal(record.getMessage())
            sys.stderr.write(f"{record.levelname.lower()}: {text}\n")
        except Exception:  # as every handler of the standard library does
            self.handleError(record)


@contextmanager
def messages_shown(level: int = logging.WARNING) -> Iterator[None]:
    """Show our messages while a command runs, whatever others did to logging.

    Libraries that are imported (Opacus is one) give the root logger a handler of their own; a
    message of ours does not reach it meanwhile.

    Args:
        level: The least that is shown.
    """
    handler = _Lines()
    loggers = [logging.getLogger(name) for name in OURS]
    before = [(logger.level, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(level)
        logger.propagate = False
    try:
        yield
    finally:
        for logger, (old, propagate) in zip(loggers, before, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(old)
            logger.propagate = propagate


@contextmanager
def muted(name: str) -> Iterator[None]:
    """Leave out what a logger and those below it say of less than an error."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
