"""Running to the last round: resume after a kill at any point is bit-identical."""

import math
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import pfedmoap.engine.simulation as simulation
from pfedmoap.client.local_training import Training
from pfedmoap.client.privatizer import NoPrivacy
from pfedmoap.contract.tasks import Setting
from pfedmoap.engine.simulation import Rounds, run_federation
from pfedmoap.errors import ConfigError, RunError
from pfedmoap.methods.registry import method_class
from pfedmoap.runs.directory import Checkpoint, RunDirectory
from pfedmoap.storage.atomic_files import read_arrays, write_arrays
from pfedmoap.wire.messages import ClientId
from pfedmoap.wire.transport import InProcess
from tests.helpers.models import CLASS_NAMES, random_data

ROUNDS = Rounds(rounds=3, participation=0.5)


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the package may catch it and go on."""


def method_of(clip, clients_per_batch=10, seed=0):
    training = Training(
        epochs=1, batch_size=4, learning_rate=0.05, clients_per_batch=clients_per_batch
    )
    setting = Setting(clip, CLASS_NAMES, training, seed=seed)
    return method_class("pfedmoap")(setting, experts=2, context_length=4)


def run_once(clip, path, *, clients_per_batch=10, seed=0, rounds=ROUNDS, order=1):
    data = dict(list(random_data([5, 9, 7, 3, 8, 4]).items())[::order])
    run = None
    if path is not None:
        run = RunDirectory.create(path, {"some": "config"}, {}, resume=True)
    method = method_of(clip, clients_per_batch, seed)
    return run_federation(
        method, data, rounds, seed, NoPrivacy(), run=run, observe=lambda now: {"seen": now.round}
    )


class Hostile(InProcess):
    """A wire on which one client's upload is a hundred times as long and heavy."""

    def up(self, update):
        arrived = super().up(update)
        if update.client != ClientId(2):
            return arrived
        far = {name: 100 * value for name, value in arrived.arrays.items()}
        return replace(arrived, arrays=far, num_examples=10**9, metrics={"train_loss": math.nan})


def test_the_metrics_say_whose_change_was_shortened_and_whose_weight_capped(
    clip, tmp_path, monkeypatch
):
    run_once(clip, tmp_path / "plain", rounds=Rounds(2))
    assert not any(
        {"shortened", "capped"} & set(r) for r in RunDirectory(tmp_path / "plain").metrics()
    )
    monkeypatch.setattr(simulation, "InProcess", Hostile)
    run_once(clip, tmp_path / "run", rounds=Rounds(2))
    for record in RunDirectory(tmp_path / "run").metrics():
        assert list(record["shortened"]) == ["2"]
        assert record["shortened"]["2"]["context"]["limit"] < 1
        assert record["capped"]["2"]["found"] == 10**9
        assert "2" not in record["train_loss"]


def contents(path: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file() and file.name != "metrics.jsonl"
    }


def untimed(path: Path):
    return [
        {key: value for key, value in record.items() if key != "train_seconds"}
        for record in RunDirectory(path).metrics()
    ]


def test_kill_at_every_point_and_resume_is_bit_identical(clip, tmp_path, monkeypatch):
    expected = tmp_path / "whole"
    run_once(clip, expected)
    points = 0
    real = {name: getattr(os, name) for name in ("replace", "fsync")}
    while True:
        killed = tmp_path / f"killed-{points}"
        left = points

        def maybe_die(name):
            def call(*args, **kwargs):
                nonlocal left
                if left == 0:
                    raise Killed
                left -= 1
                return real[name](*args, **kwargs)

            return call

        with monkeypatch.context() as patch:
            for name in real:
                patch.setattr(os, name, maybe_die(name))
            try:
                run_once(clip, killed)
            except Killed:
                died = True
            else:
                died = False
        if not died:
            break
        run_once(clip, killed)
        assert contents(killed) == contents(expected), f"killed at file operation {points}"
        assert untimed(killed) == untimed(expected)
        points += 7  # a prime step: every kind of point, without hours of testing
    assert points > 28


def test_result_does_not_depend_on_order_or_batching_of_clients(clip):
    expected = run_once(clip, None)
    for variation in ({"clients_per_batch": 1}, {"clients_per_batch": 2}, {"order": -1}):
        found = run_once(clip, None, **variation)
        torch.testing.assert_close(found.state.context, expected.state.context, rtol=0, atol=1e-5)
        for client, local in expected.local_states.items():
            for name, array in local.items():
                torch.testing.assert_close(
                    found.local_states[client][name], array, rtol=0, atol=1e-5
                )


def test_seed_0_is_a_seed(clip):
    first, again, other = (run_once(clip, None, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.state.context, again.state.context)
    assert not torch.equal(first.state.context, other.state.context)


def test_partial_participation_leaves_the_others_untouched(clip, tmp_path):
    run_once(clip, tmp_path)
    run = RunDirectory(tmp_path)
    took_part = {client for record in run.metrics() for client in record["cohort"]}
    assert all(len(record["cohort"]) == 3 for record in run.metrics())
    checkpoint = run.load()
    assert set(checkpoint.local_states) == took_part
    last = {c: r["round"] for r in run.metrics() for c in r["cohort"]}
    for client, round in last.items():
        file, entry = checkpoint.local_states.entry(client)
        assert (entry.round, file) == (round, f"clients/shard-{round:06d}.safetensors")


def test_a_finished_run_is_not_run_again(clip, tmp_path):
    run_once(clip, tmp_path)
    before = contents(tmp_path)
    run_once(clip, tmp_path)
    assert contents(tmp_path) == before
    assert len(RunDirectory(tmp_path).metrics()) == 3


def test_evaluation_runs_on_its_rounds_and_on_the_last(clip, tmp_path):
    run_once(clip, tmp_path, rounds=Rounds(rounds=5, evaluate_every=2))
    assert [r.get("seen") for r in RunDirectory(tmp_path).metrics()] == [None, 2, None, 4, 5]


def test_another_configuration_in_the_same_folder_is_refused(clip, tmp_path):
    run_once(clip, tmp_path)
    with pytest.raises(RunError, match="holds a run already"):
        RunDirectory.create(tmp_path, {"some": "config"}, {}, resume=False)
    with pytest.raises(RunError, match="some was 'config', is 'other'"):
        RunDirectory.create(tmp_path, {"some": "other"}, {}, resume=True)


def test_damaged_files_are_named(clip, tmp_path):
    run_once(clip, tmp_path)
    run = RunDirectory(tmp_path)
    server = max((tmp_path / "server").glob("round-*"))
    server.write_bytes(server.read_bytes()[:100])
    with pytest.raises(RunError, match="not a whole safetensors file"):
        run.load()
    (tmp_path / "checkpoint.json").write_text("{")
    with pytest.raises(RunError, match="damaged"):
        run.load()


def test_a_pickle_is_never_read(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(RunError, match="not a whole safetensors"):
        read_arrays(tmp_path / "x.safetensors")
    write_arrays(tmp_path / "y.safetensors", {"a": torch.arange(4.0).view(2, 2).mT})
    assert read_arrays(tmp_path / "y.safetensors")["a"].tolist() == [[0, 2], [1, 3]]


@pytest.mark.parametrize("wrong", [{"rounds": 0}, {"evaluate_every": 0}, {"participation": 1.5}])
def test_impossible_options_are_refused(wrong):
    with pytest.raises(ConfigError):
        replace(ROUNDS, **wrong)


def test_reading_a_run_changes_nothing_on_disk(clip, tmp_path):
    run_once(clip, tmp_path)
    running = tmp_path / "clients/shard-000004.safetensors"
    running.write_bytes(b"a round that is being written")
    before = contents(tmp_path)
    assert RunDirectory(tmp_path).load() is not None
    assert contents(tmp_path) == before
    RunDirectory(tmp_path).resume()
    assert not running.exists()


def test_a_run_is_not_resumed_on_other_data(tmp_path):
    run = RunDirectory.create(tmp_path, {}, {"class_names": ["cat", "dog"]}, resume=False)
    run.save(Checkpoint(1, {}, {}), (), {"round": 1})
    with pytest.raises(RunError, match=r"other data or weights .differing: class_names"):
        RunDirectory.create(tmp_path, {}, {"class_names": ["dog", "cat"]}, resume=True)


def test_the_schedule_counts_the_rounds_of_whoever_is_drawn_most():
    rounds, clients = Rounds(7, participation=0.4), [ClientId(i) for i in (4, 0, 9, 2, 5)]
    drawn = [client for round in range(1, 8) for client in rounds.cohort(clients, round, seed=3)]
    assert rounds.most_of_one_client(clients, seed=3) == max(map(drawn.count, clients)) < 7
    assert rounds.most_of_one_client(reversed(clients), seed=3) == max(map(drawn.count, clients))
    assert Rounds(7).most_of_one_client(clients, seed=3) == 7
