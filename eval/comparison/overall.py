"""What a comparison of several tasks comes to: each method's mean over them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eval.comparison.cells import Results
from eval.comparison.paired import Difference, paired_difference
from eval.comparison.summary import Spread, spread_of
from pfedmoap.wire.messages import ClientId


@dataclass(frozen=True)
class Overall:
    """One method over all tasks.

    Attributes:
        method: Label of the method.
        seeds: Seeds that all tasks have finished.
        mean: Personalised accuracy, mean over clients and then over tasks.
        difference: Against the reference on the same seeds, its mean over tasks with Student's
            interval over the seeds; ``None`` for the reference itself, or without a common seed.
    """

    method: str
    seeds: int
    mean: Spread
    difference: Difference | None


def over_tasks(results: Results) -> list[Overall]:
    """Make a row of every method that has finished a seed on all tasks; none for a single task."""
    plan = results.comparison
    if len(plan.tasks) < 2:
        return []
    found = {method: _by_seed(results, method, plan.tasks) for method in plan.methods}
    reference = found[plan.reference]
    rows = []
    for method, own in found.items():
        if not own:
            continue
        common = set(own) & set(reference) if method != plan.reference else set()
        rows.append(
            Overall(
                method,
                len(own),
                spread_of([float(np.mean(list(tasks.values()))) for tasks in own.values()]),
                paired_difference(own, reference) if common else None,
            )
        )
    return rows


def _by_seed(
    results: Results, method: str, tasks: Sequence[str]
) -> dict[int, dict[ClientId, float]]:
    """A method's accuracy by task, counted from 0, by each seed that all of them have."""
    runs = [results.of(task, method) for task in tasks]
    seeds = set.intersection(*(set(of_task) for of_task in runs))
    return {
        seed: {
            ClientId(i): float(np.mean(list(of_task[seed].accuracy.values())))
            for i, of_task in enumerate(runs)
        }
        for seed in sorted(seeds)
    }
