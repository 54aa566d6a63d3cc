"""How far a command is: a bar on a terminal, a line at a time in a pipe or a file."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from eval.console import PlainConsole, percent
from eval.escaping import for_terminal
from pfedmoap.engine.simulation import Progress as Callback
from pfedmoap.runs.log import Record

Told = Callable[[Record, int], None]
"""Called with a round's record and the number of rounds."""

Counted = Callable[[str, int, int], None]
"""Called with what ended, how many have, and how many there will be."""


def is_live() -> bool:
    """Whether standard error can show a bar that moves."""
    shown = PlainConsole(stderr=True)
    return shown.is_jupyter or (shown.is_terminal and not shown.is_dumb_terminal)


def terminal_progress(unit: str | None = None, *, shown: bool = True) -> Progress:
    """Make an empty display of bars on standard error, which vanishes when it is left.

    Args:
        unit: What is counted, in the singular, to be written behind the count; none for no word.
        shown: Show it at all.

    Returns:
        The display, to be entered and given its bars.
    """
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        *(() if unit is None else (TextColumn(unit + "s"),)),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=PlainConsole(
            stderr=True, quiet=not shown
        ),  # older rich ends a hidden bar with a line
        transient=True,
        disable=not shown,
    )


@contextmanager
def progress_bar(label: str, unit: str = "round", *, shown: bool = True) -> Iterator[Callback]:
    """Say how much is done: yields the function that is called with it and with the whole."""
    if shown and not is_live():
        lines = Lines(label, unit)
        yield lines.count
        return
    with terminal_progress(unit, shown=shown) as progress:
        task = progress.add_task(for_terminal(label, lines=False), total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


@contextmanager
def round_progress(label: str, *, shown: bool = True) -> Iterator[tuple[Callback, Told]]:
    """Say how many rounds are done.

    Yields:
        What moves the bar of a terminal; and what writes a line for a round, with its figures,
        where there is no terminal. Each does nothing in the other's place.
    """
    if shown and not is_live():
        lines = Lines(label, "round")
        yield lines.start, lines.tell
        return
    with progress_bar(label, shown=shown) as advance:
        yield advance, lambda *_: None


@contextmanager
def counted_progress(label: str, unit: str, *, shown: bool = True) -> Iterator[Counted]:
    """Say what has ended, and how much is left."""
    if shown and not is_live():
        lines = Lines(label, unit)
        lines.start(0, 0)
        yield lambda name, done, total: lines.count(done, total, name)
        return
    with progress_bar(label, unit, shown=shown) as advance:
        yield lambda _, done, total: advance(done, total)


@dataclass
class Lines:
    """Writes a line each time something is done, and never over another one.

    Attributes:
        label: What each line begins with.
        unit: What is counted.
    """

    label: str
    unit: str

    def __post_init__(self) -> None:
        self._began: float | None = None
        self._first = 0

    def start(self, done: int, total: int) -> None:
        """Begin to measure, where nothing is told yet."""
        del total
        if self._began is None:
            self._began, self._first = time.monotonic(), done

    def count(self, done: int, total: int, name: str = "") -> None:
        """Write how much is done, but for the start."""
        self.start(done, total)
        if done > self._first:
            self._write(done, total, name)

    def tell(self, record: Record, total: int) -> None:
        """Write a round's line with its figures."""
        done = record["round"]
        self.start(done - 1, total)
        found = record.get("evaluation", {})
        losses = list(record.get("train_loss", {}).values())
        figures = [
            f"{name} {percent(found[key])} %"
            for key, name in (("mean", "mean"), ("worst_decile", "worst decile"))
            if found.get(key) is not None
        ]
        figures += [f"loss {sum(losses) / len(losses):.4g}"] if losses else []
        self._write(done, total, ", ".join(figures))

    def _write(self, done: int, total: int, more: str) -> None:
        began = time.monotonic() if self._began is None else self._began
        elapsed, made = time.monotonic() - began, done - self._first
        left = elapsed / made * (total - done) if made else 0.0
        parts = [f"{self.label}: {self.unit} {done}/{total}", *([more] if more else [])]
        parts += [f"{_seconds(elapsed)} so far", f"about {_seconds(left)} left"]
        sys.stderr.write(for_terminal(", ".join(parts), lines=False) + "\n")
        sys.stderr.flush()


def _seconds(value: float) -> str:
    minutes, seconds = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"
