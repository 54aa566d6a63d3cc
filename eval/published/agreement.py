"""Compare our figures of a published table with the paper's."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev

from eval.comparison.spec import Cell, Comparison
from eval.escaping import for_csv
from eval.published.figures import Figure, PublishedTable
from eval.results import read_result
from pfedmoap.runs.directory import RunDirectory
from pfedmoap.storage.atomic_files import write_bytes

AVERAGE = "average"
_HEADINGS = (
    "column",
    "method",
    "ours",
    "ours_std",
    "seeds",
    "published",
    "published_std",
    "verdict",
)


@dataclass(frozen=True)
class Line:
    """One cell of the table, ours beside the paper's.

    Attributes:
        column: The task, or the domain in a table by domain.
        method: Label of the method.
        ours: Mean over seeds of the mean over clients, in per cent; ``None`` where not run.
        seeds: How many seeds that is.
        published: The paper's figure; ``None`` where it has none.
        verdict: ``inside`` or ``outside`` the spreads of both, or why that cannot be said.
    """

    column: str
    method: str
    ours: Figure | None
    seeds: int
    published: Figure | None
    verdict: str


@dataclass(frozen=True)
class Reproduction:
    """A table as far as it could be run.

    Attributes:
        lines: Its cells.
        reasons: Why cells are missing: by reason, the tasks and methods.
    """

    lines: tuple[Line, ...]
    reasons: Mapping[str, tuple[str, ...]]


def hold_against(
    table: PublishedTable, plan: Comparison, out: Path, missing: Mapping[Path, str]
) -> Reproduction:
    """Compare our figures with the published ones.

    Ours lies inside where the two means differ by no more than the two spreads together.

    Args:
        table: The published table.
        plan: The comparison that was run.
        out: Its folder.
        missing: Why cells are missing.

    Returns:
        The table, with every published cell, whether it was run or not.
    """
    ours: dict[tuple[str, str], list[float]] = {}
    for cell in plan.cells:
        if cell.folder not in missing:
            for column, value in _figures(table, cell, out).items():
                ours.setdefault((column, cell.method), []).append(100 * value)
    known = {method for _, method in table.figures} & set(plan.methods)
    lines = [
        _line(table, column, method, ours.get((column, method)), method in known)
        for column, method in dict.fromkeys([*table.figures, *ours])
    ]
    reasons: dict[str, list[str]] = {}
    for cell in plan.cells:
        if cell.folder in missing:
            reasons.setdefault(missing[cell.folder], []).append(f"{cell.task} / {cell.method}")
    unique = {reason: tuple(dict.fromkeys(cells)) for reason, cells in reasons.items()}
    return Reproduction(tuple(lines), unique)


def without_verdict(found: Reproduction, reason: str) -> Reproduction:
    """Replace every verdict, e.g. where the backbone is not the paper's."""
    lines = tuple(
        replace(line, verdict=reason) if line.ours is not None else line for line in found.lines
    )
    return replace(found, lines=lines)


def write_lines(path: Path, lines: Sequence[Line], *, private: bool = False) -> None:
    """Write the table as CSV, in per cent."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_HEADINGS)
    for line in lines:
        ours, paper = line.ours or Figure(float("nan"), None), line.published
        both = [paper.mean, paper.std] if paper else [None, None]
        row = [line.column, line.method, ours.mean, ours.std, line.seeds, *both, line.verdict]
        writer.writerow([for_csv(cell) for cell in row])
    write_bytes(path, text.getvalue().encode(), private=private)


def _figures(table: PublishedTable, cell: Cell, out: Path) -> dict[str, float]:
    """A cell's accuracies by column of the table."""
    overall = read_result(out / cell.folder).last.summary.mean
    if not table.by_domain:
        return {cell.task: overall}
    by_domain: dict[str, list[float]] = {}
    table_of_clients = RunDirectory(out / cell.folder).whole("per_client.csv")
    with table_of_clients.open(newline="") as file:
        for row in csv.DictReader(file):
            by_domain.setdefault(row["domain"], []).append(float(row["accuracy"]))
    return {domain: mean(values) for domain, values in by_domain.items()} | {AVERAGE: overall}


def _line(
    table: PublishedTable, column: str, method: str, values: list[float] | None, known: bool
) -> Line:
    published = table.figures.get((column, method))
    if not values:
        return Line(column, method, None, 0, published, "not run" if known else "not implemented")
    ours = Figure(mean(values), stdev(values) if len(values) > 1 else None)
    return Line(column, method, ours, len(values), published, _verdict(table, ours, published))


def _verdict(table: PublishedTable, ours: Figure, published: Figure | None) -> str:
    if published is None:
        return "nothing published"
    if not table.anchor:
        return "no anchor"
    if published.std is None and ours.std is None:
        return "no spread"
    gap = abs(ours.mean - published.mean)
    return "inside" if gap <= (published.std or 0) + (ours.std or 0) else "outside"
