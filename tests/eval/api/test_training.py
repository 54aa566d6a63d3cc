"""Training from Python: what the command does, with nothing of the process changed."""

import doctest
import json
import logging
import random
import re
import shutil
import signal
import warnings

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

import pfedmoap
from eval.api import options, rows
from eval.commands import train as command
from eval.progress import round_progress
from pfedmoap.errors import ConfigError, PrivacyError, RunError
from tests.helpers.places import ROOT
from tests.helpers.runs import small


class Diary(pfedmoap.Callback):
    """Writes down what it is told."""

    def __init__(self, stop_after: int = 99) -> None:
        self.told: list = []
        self.stop_after = stop_after

    def on_train_begin(self, privacy):
        self.told.append(("begin", dict(privacy)))

    def on_round_end(self, report):
        self.told.append((report.round, report.rounds, report.metrics))
        if report.round == self.stop_after:
            raise KeyboardInterrupt

    def on_train_end(self, report):
        self.told.append(("end", report and report.round))


def state_of_the_process():
    """Everything that a library could change for its caller."""
    return {
        "torch": torch.get_rng_state().tolist(),
        "numpy": [part.tolist() for part in np.random.get_state() if isinstance(part, np.ndarray)],
        "random": random.getstate(),
        "gradients": torch.is_grad_enabled(),
        "number": torch.get_default_dtype(),
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "precision": torch.get_float32_matmul_precision(),
        "signals": [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)],
        "warnings": list(warnings.filters),
        "logging": [
            (logger.level, logger.propagate, list(logger.handlers))
            for logger in map(logging.getLogger, (None, "pfedmoap", "eval", "privacy"))
        ],
    }


@pytest.fixture(scope="module")
def run(cache, tmp_path_factory):
    return pfedmoap.train(small(cache), out=tmp_path_factory.mktemp("runs") / "python")


def test_it_trains_what_the_command_trains(cache, run, tmp_path):
    file = tmp_path / "small.yaml"
    file.write_text(json.dumps(small(cache)))
    command.main(["--config", str(file), "--out", str(tmp_path / "run"), "--quiet", "true"])
    theirs = pfedmoap.load(tmp_path / "run")
    assert run.config == theirs.config
    assert run.metrics.column("accuracy") == theirs.metrics.column("accuracy")
    assert (run.path / "per_client.csv").read_bytes() == (
        tmp_path / "run" / "per_client.csv"
    ).read_bytes()


def test_nothing_is_printed_and_nothing_of_the_process_is_changed(cache, tmp_path, capfd):
    pfedmoap.train(small(cache), out=tmp_path / "first")  # what is imported at first use
    before = state_of_the_process()
    pfedmoap.train(small(cache), out=tmp_path / "run").evaluate()
    assert state_of_the_process() == before
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("progress", [True, False])
def test_a_bar_is_shown_where_it_is_asked_for(cache, tmp_path, monkeypatch, progress):
    bars: list = []

    def noted(label, *, shown=True):
        bars.append((label, shown))
        return round_progress(label, shown=False)

    monkeypatch.setattr("eval.running.round_progress", noted)
    pfedmoap.train(small(cache), out=tmp_path / "run", rounds__rounds=1, progress=progress)
    assert bars == [("pfedmoap", progress)]


def test_callbacks_are_told_of_each_round_once_it_is_kept(cache, tmp_path):
    diary = Diary()
    run = pfedmoap.train(small(cache), out=tmp_path / "run", callbacks=[diary])
    assert diary.told == [
        ("begin", {}),
        (1, 2, run.metrics[0]),
        (2, 2, run.metrics[1]),
        ("end", 2),
    ]


def test_what_a_callback_raises_stops_a_run_that_goes_on_to_the_same_end(cache, run, tmp_path):
    first, second, third = Diary(stop_after=1), Diary(), Diary()
    with pytest.raises(KeyboardInterrupt):
        pfedmoap.train(small(cache), out=tmp_path / "run", callbacks=[first])
    assert pfedmoap.load(tmp_path / "run").round == 1
    again = pfedmoap.train(small(cache), out=tmp_path / "run", resume=True, callbacks=[second])
    assert [told[0] for told in second.told] == ["begin", 2, "end"]
    assert again.metrics.column("mean") == run.metrics.column("mean")
    pfedmoap.train(small(cache), out=tmp_path / "run", resume=True, callbacks=[third])
    assert third.told == [("begin", {}), ("end", None)]


def test_a_method_that_does_not_train_says_one_round(cache, tmp_path):
    diary = Diary()
    pfedmoap.train(small(cache), out=tmp_path, method="zero_shot", callbacks=[diary])
    assert [told[:2] for told in diary.told[1:-1]] == [(1, 1)]


@pytest.mark.parametrize("callback", [Diary, print, object()])
def test_what_is_no_callback_is_refused_before_anything_is_done(cache, tmp_path, callback):
    with pytest.raises(ConfigError, match=r"objects that subclass pfedmoap\.Callback, got"):
        pfedmoap.train(small(cache), out=tmp_path / "run", callbacks=[callback])
    assert not (tmp_path / "run").exists()


def test_a_run_that_is_there_is_not_trained_over(cache, run):
    with pytest.raises(RunError, match="holds a run already"):
        pfedmoap.train(small(cache), out=run.path)
    with pytest.raises(RunError, match="seeds"):
        pfedmoap.train(small(cache), out=run.path, resume=True, seed=5)


def test_a_private_run_states_and_counts_what_it_spends(cache, tmp_path):
    diary = Diary()
    private = {"name": "dpsgd", "epsilon": 8.0, "delta": 1e-3, "max_grad_norm": 1.0}
    run = pfedmoap.train(
        small(cache), out=tmp_path / "run", privacy=private, rounds__rounds=1, callbacks=[diary]
    )
    assert diary.told[0] == ("begin", dict(run.privacy))
    assert run.privacy["epsilon_budget"] == 8.0
    assert max(run.epsilon.values()) == run.metrics[-1]["epsilon"] <= 8.0
    assert set(run.epsilon) <= set(run.clients)
    assert run.metrics[-1]["mean"] == run.evaluate().summary.mean
    shutil.rmtree(run.path / "private")
    assert run.metrics[-1]["mean"] is None


def test_a_run_with_noise_at_the_server_keeps_who_took_part_to_itself(cache, tmp_path):
    private = {"name": "central", "epsilon": 8.0, "delta": 1e-5}
    options = {"method": "promptfl", "rounds__rounds": 1, "rounds__participation": 0.5}
    run = pfedmoap.train(small(cache), out=tmp_path / "run", privacy=private, **options)
    assert set(run.epsilon) == set(run.clients)
    assert run.metrics[0]["mean"] == run.evaluate().summary.mean
    shutil.rmtree(run.path / "private")
    kept = ("mean", "train_loss", "down_bytes", "up_bytes", "rejected")
    assert [run.metrics[0][name] for name in kept] == [None] * 5


def test_a_method_without_a_guarantee_is_refused(cache, tmp_path):
    private = {"name": "dpsgd", "epsilon": 8.0, "delta": 1e-3, "max_grad_norm": 1.0}
    with pytest.raises(PrivacyError):
        pfedmoap.train(small(cache), out=tmp_path / "run", method="fed_bbpt", privacy=private)


def test_the_ten_lines_of_the_readme(tmp_path, monkeypatch, capsys):
    text = (ROOT / "README.md").read_text().split("## From Python", 1)[1]
    block = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert block
    assert len([line for line in block[1].splitlines() if line.strip()]) <= 10
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    monkeypatch.chdir(tmp_path)
    exec(block[1], {})
    assert re.search(r"^\d \d\.\d+$", capsys.readouterr().out, re.MULTILINE)


def test_code_of_the_page_runs(tmp_path, monkeypatch):
    """Its blocks one after another, as a reader would; the one on pandas has a test of its own."""
    text = (ROOT / "docs" / "python.md").read_text()
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    monkeypatch.chdir(tmp_path)
    scope: dict = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        if ".frame" not in block:
            exec(block, scope)
    assert scope["run"].round == 3


@pytest.mark.parametrize("module", [options, rows])
def test_examples_in_docstrings(module):
    done = doctest.testmod(module)
    assert done.attempted
    assert not done.failed


def test_pixels_are_classified_by_one_clients_model(run):
    grey = (load_digits().images[:2] * 15).astype(np.uint8)
    answers = run.client(run.clients[0]).classify(np.stack([grey] * 3, axis=-1))
    assert [len(answer.ranking) for answer in answers] == [10, 10]
