"""Handle Ctrl-C and termination signals: one line of output, and the signal's exit status."""

import shlex
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
RESUMED = ("train", "demo", "compare", "attack", "sweep")
"""Commands that go on with ``--resume``; `reproduce` goes on by itself."""


class Interrupted(KeyboardInterrupt):
    """A signal asked the process to end.

    Attributes:
        number: The signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise `Interrupted` in the block on a signal, which discards the running round.

    A second signal ends the process at once, which a run survives as well. Signals that the caller
    ignores (``nohup``) stay ignored; outside the main thread nothing is changed.
    """
    before: dict[int, Any] = {}  # handlers of any kind

    def interrupt(number: int, frame: FrameType | None) -> None:
        del frame
        for each in before:
            signal.signal(each, signal.SIG_DFL)
        raise Interrupted(number)

    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def farewell(number: int, command: str, arguments: Sequence[str]) -> str:
    """Make the message about a command that a signal ended.

    Args:
        number: The signal.
        command: The command, as its module is named.
        arguments: Its options.
    """
    words = ["pfedmoap", command.replace("_", "-"), *_without_resume(arguments)]
    name = signal.Signals(number).name
    if command in RESUMED:
        line = shlex.join([*words, "--resume"])
        return f"interrupted ({name}): complete rounds are kept. Continue with: {line}"
    return f"interrupted ({name}). Run it again with: {shlex.join(words)}"


def options_of(arguments: object) -> list[str]:
    """Options of a command that was called with these arguments; ``None`` means the process's."""
    if isinstance(arguments, Sequence) and not isinstance(arguments, str):
        return [str(word) for word in arguments]
    return sys.argv[1:]


def _without_resume(arguments: Sequence[str]) -> list[str]:
    kept: list[str] = []
    before = ""
    for word in arguments:
        value = before == "--resume" and word.lower() in ("true", "false")
        if not value and word != "--resume" and not word.startswith("--resume="):
            kept.append(word)
        before = word
    return kept
