"""Tables for use from Python: a sequence of rows, and a pandas frame where pandas is installed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from importlib import import_module
from typing import Any, overload

from eval.accuracy import Summary
from pfedmoap.errors import ConfigError
from pfedmoap.runs.log import Record

Row = dict[str, Any]  # numbers, texts, and None for what there is not
_FIGURES = tuple(field.name for field in fields(Summary))


class Rows(Sequence[Row]):
    """A table: a sequence of rows, each a mapping from column to value.

    Args:
        rows: The rows.

    Examples:
        >>> table = Rows([{"round": 1, "mean": 0.5}, {"round": 2, "mean": 0.75}])
        >>> table[-1]["mean"], table.column("round")
        (0.75, [1, 2])
    """

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows = list(rows)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> "Rows": ...
    def __getitem__(self, index: int | slice) -> "Row | Rows":
        """Return one row, or a table of some."""
        return Rows(self._rows[index]) if isinstance(index, slice) else self._rows[index]

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self._rows)

    def __repr__(self) -> str:
        return f"Rows({self._rows!r})"

    def column(self, name: str) -> list[Any]:  # of the column's type
        """Return one column; ``None`` where a row lacks it."""
        return [row.get(name) for row in self._rows]

    @property
    def frame(self) -> Any:  # pandas is not needed to check types
        """The table as a ``pandas.DataFrame``.

        Raises:
            ConfigError: pandas is not installed.
        """
        try:
            pandas = import_module("pandas")
        except ImportError as error:
            raise ConfigError(
                "`.frame` needs pandas, which cannot be imported: "
                "`pip install 'pfedmoap[frames]'`, or do without: the table is a sequence of "
                "dicts, and `.column(name)` a list"
            ) from error
        return pandas.DataFrame(self._rows)


def row_of(record: Record) -> Row:
    """Make one row of figures over clients from a round's record.

    Args:
        record: A line of a run's metrics.

    Returns:
        ``round``; ``train_seconds``; ``train_loss``, mean over the clients that reported one;
        ``down_bytes`` and ``up_bytes`` of all clients; ``rejected``, how many uploads; ``epsilon``,
        the largest of the round's clients after it; and the fields of `eval.accuracy.Summary`.
        ``None`` where there is none: in a round that was not evaluated, or whose participants are
        kept secret (a private run without its private part), or that had none.

    Examples:
        >>> row = row_of({"round": 3, "train_loss": {"0": 1.0, "4": 2.0}, "traffic": []})
        >>> row["round"], row["train_loss"], row["mean"]
        (3, 1.5, None)
    """
    losses = list(record.get("train_loss", {}).values())
    traffic = record.get("traffic", [])
    return {
        "round": record["round"],
        "train_seconds": record.get("train_seconds"),
        "train_loss": sum(losses) / len(losses) if losses else None,
        "down_bytes": sum(_total(one["down_bytes"]) for one in traffic) if traffic else None,
        "up_bytes": sum(_total(one["up_bytes"]) for one in traffic) if traffic else None,
        "rejected": len(record.get("rejected", {})) if record.get("cohort") else None,
        "epsilon": max(record.get("epsilon", {}).values(), default=None),
        **dict.fromkeys(_FIGURES),
        **record.get("evaluation", {}),
    }


def _total(sizes: Mapping[str, int]) -> int:
    return sum(sizes.values())
