"""A sweep's file is checked as a whole, before anything runs."""

import pytest

from eval.sweep.options import LocalOptions, SlurmOptions
from eval.sweep.search import next_trials
from eval.sweep.spec import TEST, VALIDATION, sweep
from pfedmoap.errors import ConfigError
from tests.helpers.sweeps import tiny


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"spaces": {}}, "a sweep has no 'spaces' .*there are: base, "),
        ({"base": ["digits"]}, "base must hold sections"),
        ({"base": {"sampling": {"validation": 0.3}}}, "base sets sampling.validation"),
        ({"base": {"seeds": {"training": 1}}}, "sets seeds"),
        ({"base": {"training": {"learning_rat": 1}}}, "training.learning_rat"),
        ({"space": {}}, "space must hold at least one option"),
        ({"space": {"training.learning_rate": []}}, "space.training.learning_rate has no value"),
        ({"space": {"training.learning_rate": [0.1, 0.1]}}, "has a value twice"),
        ({"space": {"training.learning_rate": [0.1, -1]}}, "learning_rate"),
        ({"space": {"training.learning_rat": [0.1]}}, "trial|learning_rat"),
        ({"space": {"training": [0.1]}}, "name an option with its section"),
        ({"space": {"learning_rate": [0.1]}}, "name an option with its section"),
        ({"space": {"seeds.training": [1]}}, "cannot be varied"),
        ({"space": {"sampling.validation": [0.1]}}, "cannot be varied"),
        ({"space": {"method": ["promptfl", "promptfll"]}}, "promptfll"),
        ({"space": {"training.learning_rate": {"low": 0.1, "high": 1.0}}}, "is a range, of which"),
        ({"space": {"training.learning_rate": {"low": 1, "hi": 2}}}, "has no 'hi'"),
        ({"space": {"training.learning_rate": {"low": 2, "high": 1}}}, "needs low < high"),
        ({"space": {"training.learning_rate": {"low": 0, "high": 1, "log": True}}}, "above 0"),
        ({"space": {"training.epochs": {"low": 1, "high": 9, "step": 0}}}, "step must be above 0"),
        ({"search": "gird"}, "search must name one of grid, optuna"),
        ({"search": {"name": "optuna"}}, "trials"),
        ({"search": {"name": "optuna", "trials": 3, "sampler": "best"}}, "sampler"),
        ({"search": {"name": "grid", "trials": 3}}, "trials"),
        ({"seeds": []}, "seeds must be a list"),
        ({"seeds": [1, 1]}, "seeds must be a list"),
        ({"seeds": 3}, "seeds must be a list"),
        ({"validation": 0.0}, "by.validation"),
        ({"validation": 1.0}, "by.validation"),
        ({"metric": "accuracy"}, "metric"),
        ({"executor": "cluster"}, "executor must name one of here, local, slurm"),
        ({"executor": {"name": "local", "worker": 2}}, "executor.worker"),
        ({"executor": {"name": "local", "workers": 0}}, "workers"),
    ],
)
def test_a_mistake_is_known_before_anything_runs(change, why, tmp_path):
    with pytest.raises(ConfigError, match=why):
        sweep(tiny(tmp_path, **change))


def test_the_ends_of_ranges_are_checked_too(tmp_path):
    space = {"training.learning_rate": {"low": -1.0, "high": 1.0}}
    with pytest.raises(ConfigError, match="learning_rate"):
        sweep(tiny(tmp_path, space=space, search={"name": "optuna", "trials": 2}))


def test_defaults_and_options_are_typed(tmp_path):
    assert sweep(tiny(tmp_path)).validation == 0.25
    plain = {key: value for key, value in tiny(tmp_path).items() if key != "executor"}
    assert sweep(plain).executor == LocalOptions(2, None)
    asked = {"name": "slurm", "timeout_min": 90, "setup": ["module load cuda"]}
    found = sweep(tiny(tmp_path, executor=asked)).executor
    assert isinstance(found, SlurmOptions)
    assert (found.timeout_min, found.setup, found.cluster) == (90, ["module load cuda"], "slurm")


def test_trials_train_without_what_the_choice_is_made_by_and_the_test_with_it(tmp_path):
    found = sweep(tiny(tmp_path, validation=0.5))
    first, second = next_trials(found, [], {})
    assert (first.label, second.label) == ("1: learning_rate=0.5", "2: learning_rate=1e-06")
    (held,), (whole,) = found.cells(second, VALIDATION), found.cells(second, TEST)
    assert held.config.sections["sampling"]["validation"] == 0.5
    assert whole.config.sections["sampling"]["validation"] == 0.0
    assert held.config.sections["training"]["learning_rate"] == 1e-6
    before, after = (
        found.comparison([first, second], None),
        found.comparison([first, second], second),
    )
    assert {(cell.task, cell.method) for cell in before.cells} == {
        (VALIDATION, first.label),
        (VALIDATION, second.label),
    }
    assert {cell.method for cell in after.cells if cell.task == TEST} == {second.label}
