"""Means over tasks count every task once, and seeds are what their intervals repeat."""

from pathlib import Path

import numpy as np
import pytest

from eval.comparison.cells import Results
from eval.comparison.overall import over_tasks
from eval.comparison.spec import comparison
from eval.comparison.tables import overall_texts
from eval.results import RunResult
from pfedmoap.wire.messages import ClientId
from tests.helpers.runs import small

LEVELS = {"few": 0.2, "many": 0.6}  # a task's accuracy with the reference, by its number of clients
GAINS = {0: 0.1, 1: 0.2, 2: 0.3}  # of the other method, by seed


def results(tasks: dict[str, float], missing: tuple[tuple[str, str, int], ...] = ()) -> Results:
    base = small(Path("unused"))
    del base["method"]
    plan = comparison(
        {
            "base": base,
            "tasks": dict.fromkeys(tasks),
            "methods": {"a": {"method": "zero_shot"}, "b": {"method": "local_coop"}},
            "seeds": list(GAINS),
        }
    )
    found = {}
    for cell in plan.cells:
        level = tasks[cell.task] + (GAINS[cell.seed] if cell.method == "b" else 0.0)
        clients = 2 if cell.task == "few" else 50
        accuracy = {ClientId(i): level for i in range(clients)}
        if (cell.task, cell.method, cell.seed) not in missing:
            found[cell.task, cell.method, cell.seed] = RunResult({}, clients, (), accuracy, None)
    return Results(plan, found)


def test_tasks_weigh_the_same_however_many_clients_they_have():
    a, b = over_tasks(results(LEVELS))
    assert (a.method, a.seeds, a.difference) == ("a", 3, None)
    assert a.mean.mean == pytest.approx(0.4)
    assert b.mean.mean == pytest.approx(0.6)
    assert b.mean.std == pytest.approx(0.1)
    assert b.difference is not None
    assert b.difference.mean == pytest.approx(0.2)
    assert b.difference.high == pytest.approx(0.2 + 4.302653 * 0.1 / np.sqrt(3), abs=1e-6)


def test_only_seeds_that_all_tasks_have_count():
    _, b = over_tasks(results(LEVELS, missing=(("few", "b", 2),)))
    assert b.seeds == 2
    assert b.difference is not None
    assert b.difference.mean == pytest.approx(0.15)
    everything = tuple(("few", "b", seed) for seed in GAINS)
    assert [row.method for row in over_tasks(results(LEVELS, everything))] == ["a"]


def test_a_single_task_has_no_mean_over_tasks():
    assert over_tasks(results({"few": 0.5})) == []


def test_the_table_of_all_tasks_is_in_per_cent():
    headings, rows = overall_texts(over_tasks(results(LEVELS)))
    assert headings == ["method", "seeds", "accuracy %", "difference [95% CI]"]
    assert rows[1] == ["b", "3", "60.00 ± 10.00", "+20.00 [-4.84, +44.84]"]
