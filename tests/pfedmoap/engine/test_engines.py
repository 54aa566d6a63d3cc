"""Where clients train: what the options refuse, and how many actors there are room for."""

import pytest
import torch

from pfedmoap.client.local_training import Training
from pfedmoap.client.privatizer import NoPrivacy
from pfedmoap.contract.tasks import ClientTask, Setting
from pfedmoap.engine import engines
from pfedmoap.engine.engines import FlowerSimulation, Local
from pfedmoap.errors import ConfigError
from pfedmoap.methods.registry import method_class
from pfedmoap.wire.messages import ClientId
from tests.helpers.models import CLASS_NAMES, random_data


@pytest.fixture
def machine(monkeypatch):
    """A machine with 8 cores and 2 GPUs, on which Flower is installed, and Ray never starts."""
    actors = pytest.importorskip("pfedmoap.engine.flower.actors")
    asked = []
    monkeypatch.setattr(engines, "cores", lambda: 8)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(actors, "actors_training", lambda room, *_: asked.append(room))
    return asked


def method_of(clip, clients_per_batch=1):
    training = Training(epochs=1, batch_size=4, clients_per_batch=clients_per_batch)
    return method_class("promptfl")(Setting(clip, CLASS_NAMES, training), context_length=2)


def nobody():
    raise AssertionError("no other process needs a recipe here")


@pytest.mark.parametrize(
    ("options", "batch", "actors", "gpus"),
    [
        ({}, 1, 8, 0),
        ({}, 4, 3, 0),  # no more than there are batches of 12 clients
        ({}, "auto", 8, 0),
        ({"num_cpus": 3}, 1, 2, 0),
        ({"num_gpus": 1.0}, 1, 2, 2),
        ({"num_gpus": 0.25}, 1, 8, 2),
        ({"num_gpus": 0.4}, 1, 4, 2),  # two on a GPU, not five on two
        ({"num_gpus": 2.0}, 1, 1, 2),
        ({"num_actors": 3, "num_gpus": 0.5}, 1, 3, 2),
        ({"num_actors": 10}, 1, 10, 0),  # cores are shared where more actors are asked for
    ],
)
def test_actors_are_as_many_as_cores_gpus_and_batches_allow(
    clip, machine, tmp_path, options, batch, actors, gpus
):
    data = random_data([3] * 12)
    FlowerSimulation(**options).start(method_of(clip, batch), data, nobody)
    [room] = machine
    ray = room.of_ray(tmp_path)
    assert room.actors == actors
    assert ray["num_cpus"] == actors * options.get("num_cpus", 1)
    assert ray["num_gpus"] == gpus
    assert room.each == {
        "num_cpus": options.get("num_cpus", 1),
        "num_gpus": options.get("num_gpus", 0.0),
    }


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"num_gpus": 1.5}, "a part of one GPU, or whole ones"),
        ({"num_gpus": -1.0}, "num_gpus"),
        ({"num_actors": 0}, "num_actors"),
        ({"num_actors": 2, "address": "auto"}, r"on a cluster \(engine.address\)"),
        ({"num_gpus": 3.0}, "do not fit on this machine, which has 8 cores and 2 GPUs"),
        ({"num_actors": 5, "num_gpus": 0.5}, "5 actors with 1 CPU cores and 0.5 GPUs"),
        ({"num_cpus": 9}, "do not fit"),
    ],
)
def test_room_that_is_not_there_is_refused(clip, machine, options, why):
    with pytest.raises(ConfigError, match=why):
        FlowerSimulation(**options).start(method_of(clip), random_data([3] * 12), nobody)
    assert not machine


def test_actors_without_a_gpu_are_refused_where_the_run_has_one(clip, machine, monkeypatch):
    monkeypatch.setattr(type(clip), "device", torch.device("cuda"))
    with pytest.raises(ConfigError, match=r"give each one --engine\.num_gpus 1"):
        FlowerSimulation().start(method_of(clip), random_data([3]), nobody)


def test_the_extra_is_named_where_it_is_missing(clip, monkeypatch):
    monkeypatch.setattr(engines, "find_spec", lambda name: None if name == "ray" else name)
    with pytest.raises(
        ConfigError, match=r"needs Flower and Ray: pip install 'pfedmoap\[flower\]'"
    ):
        FlowerSimulation().start(method_of(clip), random_data([3]), nobody)


def test_the_engine_of_this_process_trains_here(clip):
    method, data = method_of(clip), random_data([3, 4])
    tasks = [ClientTask(d, None, data[d.client]) for d in method.plan(method.init(), [*data], 1)]
    with Local().start(method, data, nobody) as train:
        results = train(method, tasks, NoPrivacy())
    assert [result.update.client for result in results] == [ClientId(0), ClientId(1)]
