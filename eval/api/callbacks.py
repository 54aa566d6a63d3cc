"""What a program can be told while a run is going on."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from eval.api.rows import Row, row_of
from pfedmoap.errors import ConfigError
from pfedmoap.runs.log import Record


@dataclass(frozen=True)
class RoundReport:
    """What is known after a round, which is on disk by then.

    Attributes:
        round: The round, from 1.
        rounds: How many there will be.
        record: The round's whole record, as in ``metrics.jsonl``. That of a private run has what no
            noise covers: it is for whoever runs the federation.
    """

    round: int
    rounds: int
    record: Record

    @property
    def metrics(self) -> Row:
        """Its figures over clients, one row of `Run.metrics`."""
        return row_of(self.record)


@runtime_checkable
class Callback(Protocol):
    """Is called while a run is going on.

    Subclass it and replace what you need, or give any object that has all three methods. What a
    method raises ends the training and reaches the caller; all rounds reported so far are on disk,
    and ``train(..., resume=True)`` goes on after them.
    """

    def on_train_begin(self, privacy: Mapping[str, Any]) -> None:  # noqa: ARG002
        """Before the first round.

        Args:
            privacy: The statement of the guarantee, as in ``privacy.json``; empty without one.
        """
        return  # type checkers take a method without a body to be abstract

    def on_round_end(self, report: RoundReport) -> None:  # noqa: ARG002
        """After a round of this call; rounds of the run that is continued are not reported again.

        Args:
            report: The round.
        """
        return

    def on_train_end(self, report: RoundReport | None) -> None:  # noqa: ARG002
        """After the last round, when the run is finished.

        Args:
            report: The last round; ``None`` where there was none left to run.
        """
        return


class Callbacks:
    """Several callbacks, called one after another in their order.

    Args:
        callbacks: The callbacks.

    Raises:
        ConfigError: One lacks a method.
    """

    def __init__(self, callbacks: Iterable[Callback]) -> None:
        self._callbacks = tuple(callbacks)
        self._last: RoundReport | None = None
        for one in self._callbacks:
            if isinstance(one, type) or not isinstance(one, Callback):
                got = f"the class {one.__name__}" if isinstance(one, type) else type(one).__name__
                raise ConfigError(
                    f"callbacks must be objects that subclass pfedmoap.Callback, got {got}"
                )

    def begin(self, privacy: Record) -> None:
        """Say that training begins."""
        for one in self._callbacks:
            one.on_train_begin(privacy)

    def round(self, record: Record, rounds: int) -> None:
        """Say that a round has ended."""
        self._last = RoundReport(record["round"], rounds, record)
        for one in self._callbacks:
            one.on_round_end(self._last)

    def end(self) -> None:
        """Say that the run is finished."""
        for one in self._callbacks:
            one.on_train_end(self._last)
