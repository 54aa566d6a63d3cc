"""Optuna's draws depend on the file and on the results, and on nothing else."""

import pytest

from eval.sweep.search import next_trials, planned_trials, require_search
from eval.sweep.spec import Sweep, Trial, sweep
from pfedmoap.errors import ConfigError
from tests.helpers.sweeps import tiny

SPACE = {
    "training.learning_rate": {"low": 0.001, "high": 1.0, "log": True},
    "training.epochs": {"low": 1, "high": 4},
    "training.momentum": {"low": 0.0, "high": 0.9, "step": 0.3},
    "method.class_position": ["end", "front"],
}


def searched(tmp_path, sampler: str = "tpe", trials: int = 14, seed: int = 0) -> Sweep:
    search = {"name": "optuna", "trials": trials, "sampler": sampler, "at_once": 4, "seed": seed}
    return sweep(tiny(tmp_path, space=SPACE, search=search))


def score(trial: Trial) -> float:
    return 1.0 - abs(trial.point["training.learning_rate"] - 0.1)


def all_trials(found: Sweep, failed: tuple[int, ...] = (), trials: list[Trial] | None = None):
    made = list(trials or [])
    while batch := next_trials(
        found, made, {one.number: score(one) for one in made if one.number not in failed}
    ):
        made += batch
    return made


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_sweep_that_was_killed_draws_what_it_would_have_drawn(tmp_path, sampler):
    pytest.importorskip("optuna")
    found = searched(tmp_path, sampler)
    whole = all_trials(found)
    assert all_trials(found) == whole
    assert [trial.number for trial in whole] == list(range(1, 15))
    assert [trial.batch for trial in whole] == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 2
    assert all_trials(found, trials=whole[:8]) == whole
    assert all_trials(searched(tmp_path, sampler, seed=1)) != whole
    assert planned_trials(found) == 14
    longer = all_trials(searched(tmp_path, sampler, trials=18), trials=whole)
    assert longer[:14] == whole
    assert len(longer) == 18


def test_points_lie_in_their_ranges_and_results_lead_the_search(tmp_path):
    pytest.importorskip("optuna")
    found = searched(tmp_path, trials=60)
    trials = all_trials(found)
    for trial in trials:
        assert 0.001 <= trial.point["training.learning_rate"] <= 1.0
        assert trial.point["training.epochs"] in {1, 2, 3, 4}
        assert type(trial.point["training.epochs"]) is int
        assert round(trial.point["training.momentum"] / 0.3, 6) in {0.0, 1.0, 2.0, 3.0}
        assert trial.point["method.class_position"] in {"end", "front"}
    late = sorted(score(trial) for trial in trials[-20:])
    early = sorted(score(trial) for trial in trials[:20])
    assert sum(late) > sum(early)


def test_a_trial_that_failed_is_no_result(tmp_path):
    pytest.importorskip("optuna")
    found = searched(tmp_path)
    assert all_trials(found, failed=(1, 2)) != all_trials(found)
    assert len(all_trials(found, failed=tuple(range(1, 15)))) == 14


def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setattr("eval.sweep.search.find_spec", lambda name: None)
    require_search(sweep(tiny(tmp_path)))
    with pytest.raises(ConfigError, match=r"pip install 'pfedmoap\[sweep\]'"):
        require_search(searched(tmp_path))
