"""The rows of a comparison's table: mean and spread over seeds, of the last round."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from eval.comparison.cells import Results
from eval.comparison.paired import BySeed, Difference, paired_difference
from eval.comparison.spec import Models
from eval.results import RunResult
from pfedmoap.wire.messages import ClientId


@dataclass(frozen=True)
class Spread:
    """A figure over seeds.

    Attributes:
        mean: Its mean.
        std: Its sample standard deviation (n - 1); ``None`` for a single seed.
    """

    mean: float
    std: float | None


@dataclass(frozen=True)
class Row:
    """One method on one task.

    Attributes:
        task: Label of the task.
        method: Label of the method.
        seeds: Number of finished seeds.
        mean: Personalised accuracy, unweighted mean over clients.
        worst_decile: Mean of the worst tenth of the clients.
        global_union: The global model on the union of the test sets; ``None`` without one.
        down_bytes: Payload of one round to all its clients.
        up_bytes: Payload of one round from all its clients.
        train_seconds: Of all rounds and the server's work before them, without evaluation.
        unseen: Accuracy of held-out clients; ``None`` where there are none.
        new: Accuracy on new classes; ``None`` where not tested.
        harmonic: Harmonic mean of base and new classes; ``None`` where not tested.
        difference: Against the reference, in what the comparison's ``differences`` names; ``None``
            for the reference itself, or where it is not finished or has no such model.
        queries: To a closed model in all of training; ``None`` where there were none.
        left_out: Accuracy on the domain that no client has; ``None`` where not tested.
        elsewhere: Accuracy on other data sets by label; without those that were not tested.
    """

    task: str
    method: str
    seeds: int
    mean: Spread
    worst_decile: Spread
    global_union: Spread | None
    down_bytes: Spread
    up_bytes: Spread
    train_seconds: Spread
    unseen: Spread | None
    new: Spread | None
    harmonic: Spread | None
    difference: Difference | None
    queries: Spread | None = None
    left_out: Spread | None = None
    elsewhere: Mapping[str, Spread] = field(default_factory=dict)


def table_rows(results: Results) -> list[Row]:
    """Make a row of every method on every task with a finished cell, in the order of the file."""
    plan = results.comparison
    rows = []
    for task in plan.tasks:
        reference = _compared(results.of(task, plan.reference), plan.differences)
        for method in plan.methods:
            runs = results.of(task, method)
            if not runs:
                continue
            own = _compared(runs, plan.differences)
            difference = None
            if method != plan.reference and set(own) & set(reference):
                difference = paired_difference(own, reference)
            rows.append(_row(task, method, list(runs.values()), difference))
    return rows


def other_data(rows: Sequence[Row]) -> list[str]:
    """Labels of other data sets that some row was tested on, in their order."""
    return [*dict.fromkeys(label for row in rows for label in row.elsewhere)]


def spread_of(values: Sequence[float]) -> Spread:
    """Mean and sample standard deviation of at least one value."""
    std = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Spread(float(np.mean(values)), std)


def _compared(runs: Mapping[int, RunResult], models: Models) -> BySeed:
    """The accuracies that differences are about, by seed; the global model's is a single one."""
    if models == "clients":
        return {seed: run.accuracy for seed, run in runs.items()}
    union = {seed: run.last.summary.global_union for seed, run in runs.items()}
    return {seed: {ClientId(0): value} for seed, value in union.items() if value is not None}


def _where_known(values: Sequence[float | None]) -> Spread | None:
    known = [value for value in values if value is not None]
    return spread_of(known) if known and len(known) == len(values) else None


def _row(task: str, method: str, runs: Sequence[RunResult], difference: Difference | None) -> Row:
    summaries = [run.last.summary for run in runs]
    halves = [run.generalisation or {} for run in runs]
    return Row(
        task=task,
        method=method,
        seeds=len(runs),
        mean=spread_of([summary.mean for summary in summaries]),
        worst_decile=spread_of([summary.worst_decile for summary in summaries]),
        global_union=_where_known([summary.global_union for summary in summaries]),
        down_bytes=spread_of([run.down_bytes_per_round for run in runs]),
        up_bytes=spread_of([run.up_bytes_per_round for run in runs]),
        train_seconds=spread_of([run.last.train_seconds for run in runs]),
        unseen=_where_known([summary.unseen_mean for summary in summaries]),
        new=_where_known([half.get("new") for half in halves]),
        harmonic=_where_known([half.get("harmonic") for half in halves]),
        difference=difference,
        queries=_where_known([run.last.queries or None for run in runs]),
        left_out=_where_known([half.get("left_out") for half in halves]),
        elsewhere={
            label: spread
            for label in dict.fromkeys(name for half in halves for name in _other(half))
            if (spread := _where_known([_other(half).get(label) for half in halves])) is not None
        },
    )


def _other(found: Mapping[str, Any]) -> Mapping[str, float | None]:
    known: Mapping[str, float | None] = found.get("elsewhere", {})
    return known
