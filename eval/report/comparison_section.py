"""The parts of the page about a comparison: one a task."""

from collections.abc import Sequence
from pathlib import Path

import yaml

from eval.accuracy import Summary, summarise
from eval.comparison.cells import Results
from eval.comparison.summary import table_rows
from eval.comparison.tables import COSTS, FIGURES, row_texts, table_note
from eval.console import percent
from eval.holdout import validation_note
from eval.promise import spent_epsilon
from eval.report.contenders import Contender, method_data, method_keys
from eval.report.families import family_of
from eval.report.method_curves import curves, curves_by_family
from eval.report.run_data import Evidence
from eval.report.standings import standings
from eval.report.structure import Part, Picture, Section, Table
from eval.report.trade_offs import accuracy_by_epsilon, accuracy_by_traffic
from pfedmoap.runs.directory import RunDirectory


def comparison_parts(results: Results, folder: Path) -> list[Part]:
    """Make the parts of a comparison, one a task."""
    plan = results.comparison
    parts = []
    for task in plan.tasks:
        rows = [row for row in table_rows(results) if row.task == task]
        if not rows:
            continue
        contenders = []
        for row in rows:
            runs = results.of(task, row.method)
            cells = [c for c in plan.cells if (c.task, c.method) == (task, row.method)]
            spent = [
                epsilon
                for cell in cells
                for epsilon in spent_epsilon(RunDirectory(folder / cell.folder)).values()
            ]
            contenders.append(
                Contender(
                    name=row.method,
                    curves=[
                        ([p.round for p in run.curve], [p.summary.mean for p in run.curve])
                        for run in runs.values()
                    ],
                    clients=[value for run in runs.values() for value in run.accuracy.values()],
                    difference=row.difference,
                    bytes_per_round=row.down_bytes.mean + row.up_bytes.mean,
                    epsilon=max(spent, default=None),
                    family=family_of(cells[0].config.name("method")),
                    whose=[
                        f"client {client}, seed {seed}"
                        for seed, run in runs.items()
                        for client in run.accuracy
                    ],
                )
            )
        keys = list(method_keys(contenders).values())
        tables = [
            Table(*row_texts(rows, FIGURES), keys=keys),
            Table(*row_texts(rows, COSTS), table_note(results, rows), keys=keys),
        ]
        cells = [cell for cell in plan.cells if cell.task == task]
        done, planned = sum(row.seeds for row in rows), len(cells)
        note = validation_note(cells[0].config.sections)
        unfinished = "" if done == planned else f" {planned - done} runs are not finished."
        clients = next(iter(results.of(task, rows[0].method).values())).clients
        parts.append(
            Part(
                title=task,
                subtitle=f"{len(rows)} methods, {clients} clients, "
                f"{max(row.seeds for row in rows)} seed(s); the last round throughout.{unfinished}"
                + ("" if note is None else f" {note}"),
                tiles=(),
                sections=contender_sections(contenders, plan.reference, tables, plan.differences),
                configuration=yaml.safe_dump(plan.source, sort_keys=False, allow_unicode=True),
                data=method_data(contenders),
            )
        )
    return parts


def runs_part(runs: Sequence[Evidence]) -> Part:
    """Make the part that shows several single runs together, without paired differences."""
    contenders = [_contender(run) for run in runs]
    keys = list(method_keys(contenders).values())
    headings = ("run", "accuracy %", "worst decile %", "spread, points", "global %", "ECE %")
    rows = [_figures(run.name, summarise(run.scores)) for run in runs]
    return Part(
        title="Runs side by side",
        subtitle=f"{len(runs)} runs, each after its last round; single runs have no interval.",
        tiles=(),
        sections=contender_sections(contenders, None, [Table(headings, rows, keys=keys)]),
        data=method_data(contenders),
    )


def contender_sections(
    contenders: Sequence[Contender],
    reference: str | None,
    tables: Sequence[Table],
    models: str = "clients",
) -> list[Section]:
    """Make the sections about some methods on one task.

    Args:
        contenders: The methods.
        reference: Name of the one that differences are against; ``None`` without any.
        tables: Their tables.
        models: What differences are of, ``clients`` or the ``global`` models.

    Returns:
        Standings first, and what else there is anything to show of.
    """
    made: list[tuple[str, list[Picture | None]]] = [
        ("Learning curves", [curves(contenders), curves_by_family(contenders)]),
        ("Accuracy and traffic", [accuracy_by_traffic(contenders)]),
        ("Accuracy and privacy", [accuracy_by_epsilon(contenders)]),
    ]
    first = Section(
        "Standings",
        pictures=[standings(contenders, reference, models)],
        tables=tables,
        explorer="methods",
    )
    known = [(title, [one for one in pictures if one is not None]) for title, pictures in made]
    return [first, *(Section(title, pictures=shown) for title, shown in known if shown)]


def _contender(run: Evidence) -> Contender:
    records = [record for record in run.records if "evaluation" in record]
    sent = sum(
        sum(each[way].values())
        for record in run.records
        for each in record["traffic"]
        for way in ("down_bytes", "up_bytes")
    )
    return Contender(
        name=run.name,
        curves=[([r["round"] for r in records], [r["evaluation"]["mean"] for r in records])],
        clients=[one.accuracy for one in run.scores if not one.unseen],
        difference=None,
        bytes_per_round=sent / len(run.records),
        epsilon=max(run.epsilon.values(), default=None),
        family=family_of(run.config["method"]["name"]),
        whose=[f"client {one.client}" for one in run.scores if not one.unseen],
    )


def _figures(name: str, summary: Summary) -> tuple[str, ...]:
    return (
        name,
        percent(summary.mean),
        percent(summary.worst_decile),
        f"{100 * summary.std:.2f}",
        percent(summary.global_union),
        percent(summary.ece),
    )
