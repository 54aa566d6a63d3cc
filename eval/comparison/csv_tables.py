"""A comparison's figures as CSV files, with plain numbers."""

import csv
import io
from collections.abc import Callable, Iterable, Sequence

from eval.comparison.cells import Results
from eval.comparison.summary import Row, Spread, other_data, table_rows
from eval.escaping import for_csv


def table_csv(results: Results) -> str:
    """Write the table with plain numbers: fractions, bytes and seconds."""
    names = ("mean", "worst_decile", "global_union", "unseen", "new", "harmonic")
    costs = ("down_bytes", "up_bytes", "queries", "train_seconds")
    rows_of = table_rows(results)
    further = _further(rows_of)
    rows: list[list[object]] = [
        [
            "task",
            "method",
            "seeds",
            *(f"{name}{part}" for name in (*names, *costs) for part in ("", "_std")),
            "difference",
            "difference_low",
            "difference_high",
            "interval_over",
            "wins",
            "losses",
            *(f"{name}{part}" for name in further for part in ("", "_std")),
        ]
    ]
    for row in rows_of:
        spreads: list[Spread | None] = [getattr(row, name) for name in (*names, *costs)]
        gap = row.difference
        paired = (
            [None] * 6
            if gap is None
            else [gap.mean, gap.low, gap.high, gap.unit, gap.wins, gap.losses]
        )
        rows.append([row.task, row.method, row.seeds, *_flat(spreads), *paired])
        rows[-1] += _flat([further[name](row) for name in further])
    return _csv(rows)


def _flat(spreads: Sequence[Spread | None]) -> list[float | None]:
    return [part for s in spreads for part in ((s.mean, s.std) if s else (None, None))]


def _further(rows: Sequence[Row]) -> dict[str, Callable[[Row], Spread | None]]:
    """Columns of the CSV file that only some comparisons have, by name."""
    found: dict[str, Callable[[Row], Spread | None]] = {}
    if any(row.left_out for row in rows):
        found["left_out"] = lambda row: row.left_out
    for label in other_data(rows):
        found[f"on {label}"] = lambda row, label=label: row.elsewhere.get(label)  # type: ignore[misc]
    return found


def curves_csv(results: Results) -> str:
    """Write every evaluated round of every run."""
    rows: list[list[object]] = [
        [
            "task",
            "method",
            "seed",
            "round",
            "mean",
            "worst_decile",
            "global_union",
            "down_bytes",
            "up_bytes",
            "train_seconds",
        ]
    ]
    for (task, method, seed), run in results.by_cell.items():
        for at in run.curve:
            figures = (at.summary.mean, at.summary.worst_decile, at.summary.global_union)
            costs = (at.down_bytes, at.up_bytes, at.train_seconds)
            rows.append([task, method, seed, at.round, *figures, *costs])
    return _csv(rows)


def clients_csv(results: Results) -> str:
    """Write the accuracy of every client of every run after the last round."""
    rows: list[list[object]] = [["task", "method", "seed", "client", "accuracy"]]
    for (task, method, seed), run in results.by_cell.items():
        rows += [[task, method, seed, client, value] for client, value in run.accuracy.items()]
    return _csv(rows)


def _csv(rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    safe = [[for_csv(cell) for cell in row] for row in rows]
    csv.writer(text, lineterminator="\n").writerows(safe)
    return text.getvalue()
