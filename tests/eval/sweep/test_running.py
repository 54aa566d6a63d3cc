"""A sweep chooses by held-out training images, and tests the chosen trial alone."""

import json

import pytest
import yaml

from eval.choices import schema
from eval.commands import report
from eval.comparison.cells import read_results
from eval.experiment import ExperimentLoader
from eval.results import read_result
from eval.sweep.executors import Here
from eval.sweep.running import run_sweep, warn_of_privacy
from eval.sweep.spec import TEST, VALIDATION, sweep
from pfedmoap.errors import RunError
from tests.helpers.sweeps import tiny


@pytest.fixture(scope="module")
def source(cache):
    return tiny(cache, validation=0.4)


@pytest.fixture(scope="module")
def whole(source, tmp_path_factory):
    out = tmp_path_factory.mktemp("sweeps") / "whole"
    told: list = []
    with pytest.MonkeyPatch.context() as patch:  # pictures take a second each
        patch.setattr("eval.tracking.tracker.pictures_of", lambda run, loader: [])
        chosen = run_sweep(sweep(source), out, track=["csv"], advance=lambda *a: told.append(a))
    return out, chosen, told


class Killed(Here):
    """Ends like a killed process after so many jobs."""

    def __init__(self, after: int) -> None:
        self.after = after

    def run(self, jobs):
        for done, outcome in enumerate(super().run(jobs)):
            if done == self.after:
                raise KeyboardInterrupt
            yield outcome


def files(out):
    return {
        str(file.relative_to(out)): file.read_bytes()
        for file in sorted(out.rglob("*"))
        if file.is_file()
        and file.name in ("per_client.csv", "sweep.json", "comparison.json", "chosen.yaml")
    }


def test_the_best_on_validation_is_chosen_and_it_alone_is_tested(whole, source):
    out, chosen, told = whole
    results = {
        trial: read_result(out / "cells" / VALIDATION / folder / "seed0").last.summary.mean
        for trial, folder in ((1, "1-learning_rate=0.5"), (2, "2-learning_rate=1e-06"))
    }
    assert chosen.scores == results
    assert results[2] > results[1]
    assert (chosen.trial.number, chosen.score) == (2, results[2])
    assert [file.name for file in (out / "cells" / TEST).iterdir()] == ["2-learning_rate=1e-06"]
    assert [one[1:] for one in told] == [(1, 3), (2, 3), (3, 3)]
    assert chosen.failed == {}


def test_trials_neither_train_nor_are_tested_on_what_the_other_is(whole):
    """The test of the chosen trial trains on all of a client's images, and tests on others."""
    _, chosen, _ = whole
    loader, found = ExperimentLoader(progress=False), {}
    for cell in chosen.results.comparison.cells:
        if cell.method == chosen.trial.label:
            federation = loader.prepare(cell.config).federation
            found[cell.task] = federation
    for client, own in found[TEST].clients.items():
        held = found[VALIDATION].clients[client]
        assert set(held.split.test) | set(held.split.train) == set(own.split.train)
        assert not set(held.split.test) & set(held.split.train)
        assert not set(held.split.test) & set(own.split.test)
        assert not found[TEST].dataset.is_test[held.split.test].any()


def test_its_folder_is_a_comparison_that_report_opens(whole, capsys):
    out, _, _ = whole
    assert set(read_results(out).comparison.tasks) == {VALIDATION, TEST}
    page = out.parent / "page.html"
    report.main([str(out), "--out", str(page)])
    text = page.read_text()
    assert "2: learning_rate=1e-06" in text
    assert "no test image was used" in text
    assert "not finished" not in text
    assert (out / "table.md").exists()
    assert len(list(out.rglob("tracking/csv/rounds.csv"))) == 3


def test_its_options_are_a_configuration_of_train(whole, source):
    out, _, _ = whole
    config = schema().resolve(yaml.safe_load((out / "chosen.yaml").read_text()))
    assert config.sections["training"]["learning_rate"] == 1e-6
    assert config.sections["method"]["context_length"] == 2
    assert config.sections["sampling"]["validation"] == 0.0


@pytest.mark.parametrize("after", [0, 1])
def test_a_killed_sweep_goes_on_to_the_same_end(whole, source, tmp_path, after):
    out = tmp_path / "killed"
    with pytest.raises(KeyboardInterrupt):
        run_sweep(sweep(source), out, executor=Killed(after))
    assert not (out / "cells" / TEST).exists()
    with pytest.raises(RunError, match="holds a sweep already; continue it with --resume"):
        run_sweep(sweep(source), out)
    run_sweep(sweep(source), out, resume=True)
    assert files(out) == files(whole[0])


def test_a_trial_that_fails_is_reported_and_the_sweep_goes_on(cache, tmp_path, caplog):
    source = tiny(cache, space={"partition.clients": [4, 60]})  # who share 40 images
    chosen = run_sweep(sweep(source), tmp_path / "out")
    assert chosen.trial.number == 1
    assert set(chosen.failed) == {"validation-2-seed0"}
    assert "trial 2: clients=60, seed 0 failed: PartitionError" in caplog.text
    assert json.loads((tmp_path / "out" / "sweep.json").read_text())["failed"] == chosen.failed


def test_a_sweep_without_a_whole_trial_chooses_none(cache, tmp_path):
    with pytest.raises(RunError, match=r"no trial of .* is whole.*PartitionError"):
        run_sweep(sweep(tiny(cache, space={"partition.clients": [60]})), tmp_path / "out")
    assert not (tmp_path / "out" / "cells" / TEST).exists()
    metric = tiny(cache, space={"method": ["local_coop"]}, metric="global_union")
    metric["base"] = metric["base"] | {"method": {"name": "local_coop", "context_length": 2}}
    with pytest.raises(RunError, match="has no global_union: its method has no such model"):
        run_sweep(sweep(metric), tmp_path / "other")


def test_another_sweep_or_another_thing_in_the_folder_is_left_alone(whole, source, tmp_path):
    out = whole[0]
    before = files(out)
    with pytest.raises(RunError, match=r"another file \(differing: validation\)"):
        run_sweep(sweep(source | {"validation": 0.3}), out, resume=True)
    with pytest.raises(RunError, match="differing: space"):
        run_sweep(sweep(source | {"space": {"training.epochs": [1]}}), out, resume=True)
    run_sweep(sweep(source | {"executor": {"name": "local"}}), out, resume=True)  # nothing is left
    assert {k: v for k, v in files(out).items() if k != "sweep.json"} == {
        k: v for k, v in before.items() if k != "sweep.json"
    }
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="no sweep of this package"):
        run_sweep(sweep(source), tmp_path, resume=True)
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_a_sweep_that_was_tested_gets_no_more_trials(cache, tmp_path):
    """They would be chosen by somebody who has seen the test's result."""
    pytest.importorskip("optuna")
    space = {"training.learning_rate": {"low": 0.1, "high": 0.5}}
    source = tiny(cache, space=space, search={"name": "optuna", "trials": 1})
    run_sweep(sweep(source), tmp_path / "out")
    more = sweep(source | {"search": {"name": "optuna", "trials": 2}})
    with pytest.raises(RunError, match="has chosen a trial and tested it"):
        run_sweep(more, tmp_path / "out", resume=True)


def test_private_trials_are_warned_of(cache, caplog):
    warn_of_privacy(sweep(tiny(cache)))
    assert not caplog.records
    private = tiny(cache, seeds=[0, 1])
    private["base"] = private["base"] | {"privacy": {"name": "dpsgd", "epsilon": 4.0}}
    warn_of_privacy(sweep(private))
    assert "2 trials x 2 seeds on the same data spend the sum of their budgets" in caplog.text
