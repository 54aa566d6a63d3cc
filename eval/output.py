"""Where output goes that nobody reads: a stream that is closed, a pipe whose reader has left."""

import os
import select
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

GONE = 128 + 13
"""Status of a command whose reader has left, as a shell shows that of SIGPIPE."""

_STREAMS = {"stdin": "r", "stdout": "w", "stderr": "w"}


@contextmanager
def read_or_not() -> Iterator[None]:
    """Let a block write whether or not somebody reads.

    A standard stream that is closed (``>&-``, a service without one) is empty, or swallows what is
    written; its number is taken, so that no file gets it, into which a library would then write
    its messages. If the reader of a pipe leaves (``| head``), the process ends without a word, as
    other tools do.

    Raises:
        SystemExit: The reader of standard output has left.
    """
    with ExitStack() as stack:
        for name, mode in _STREAMS.items():
            if getattr(sys, name) is None:
                nowhere = stack.enter_context(Path(os.devnull).open(mode))
                setattr(sys, name, nowhere)
                stack.callback(setattr, sys, name, None)
        try:
            try:
                yield
            finally:
                sys.stdout.flush()  # here, and not when the interpreter ends
        except BrokenPipeError:
            if not has_left(sys.stdout):
                raise  # of a network, say
            with Path(os.devnull).open("w") as nowhere:  # for what is in the buffer
                os.dup2(nowhere.fileno(), sys.stdout.fileno())
            sys.exit(GONE)


def has_left(stream: object) -> bool:
    """Whether the reader of a pipe is gone, where the system can tell."""
    try:
        polled = select.poll()
        polled.register(stream, select.POLLOUT)  # type: ignore[arg-type]  # has a file or raises
        return any(event & (select.POLLERR | select.POLLHUP) for _, event in polled.poll(0))
    except (AttributeError, OSError, ValueError, TypeError):
        return False
