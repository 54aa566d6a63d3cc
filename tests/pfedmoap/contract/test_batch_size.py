"""How many clients a batch has: as asked for, or as many as memory holds."""

from dataclasses import replace

import pytest
import torch

from pfedmoap.client.local_training import Training
from pfedmoap.contract import batch_size
from pfedmoap.contract.batch_size import MOST, batch_size_for, encoded_at_once, fixed_batch_size
from pfedmoap.contract.tasks import ClientTask, Setting
from pfedmoap.prompts.tuning import PromptProblem
from pfedmoap.wire.messages import Download
from tests.helpers.models import CLASS_NAMES, random_data

LENGTH = 4


@pytest.fixture
def setting(clip):
    return Setting(clip, CLASS_NAMES, Training(clients_per_batch="auto", batch_size=4))


def begin_of(clip, names):
    encoder = clip.prompt_encoder(names, LENGTH)

    def begin(batch):
        problem = PromptProblem(encoder, clip.logit_scale)
        return problem, {"context": torch.zeros(len(batch), LENGTH, 32)}

    return begin


def sized(setting, names, free, monkeypatch, sizes=(4, 4, 0)):
    monkeypatch.setattr(batch_size, "free_bytes", lambda device: free)
    tasks = [
        ClientTask(Download(1, client, {}), None, own)
        for client, own in random_data(list(sizes)).items()
    ]
    return batch_size_for(tasks, setting, begin_of(setting.backbone, names), lambda t: len(t.data))


def test_a_number_is_taken_as_it_is(setting):
    fixed = replace(setting, training=Training(clients_per_batch=7))
    assert batch_size_for([], fixed, lambda batch: None) == 7
    assert (encoded_at_once(fixed), fixed_batch_size(fixed)) == (7, 7)
    assert fixed_batch_size(setting) == Training().clients_per_batch


def test_a_gpu_encodes_as_many_prompts_as_keep_it_busy(setting, monkeypatch):
    asked = {"clients_per_batch": 7}
    for device, names, most in (
        ("cpu", 10, 7),
        ("meta", 10, 640),
        ("meta", 2000, 7),
        ("meta", 2, MOST),
    ):
        monkeypatch.setattr(type(setting.backbone), "device", torch.device(device))
        fixed = replace(setting, training=Training(**asked), class_names=("a",) * names)
        assert encoded_at_once(fixed) == most


def test_as_many_clients_as_the_memory_holds(setting, monkeypatch):
    few, more = (sized(setting, CLASS_NAMES, free, monkeypatch) for free in (20e6, 60e6))
    assert 1 < few < more < MOST
    assert more == pytest.approx(3 * few, rel=0.2)
    names = [f"thing number {i}" for i in range(40)]
    assert sized(setting, names, 60e6, monkeypatch) < more / 3  # more classes, fewer clients
    assert sized(setting, CLASS_NAMES, 0, monkeypatch) == 1
    assert sized(setting, CLASS_NAMES, 1e15, monkeypatch) == MOST
    assert sized(setting, CLASS_NAMES, 20e6, monkeypatch, sizes=(0, 0)) == MOST


def test_what_is_measured_is_what_a_batch_of_that_size_keeps(setting, monkeypatch):
    free = 60e6
    size = sized(setting, CLASS_NAMES, free, monkeypatch)
    problem, params = begin_of(setting.backbone, CLASS_NAMES)(range(size))
    with batch_size.kept_bytes() as count:
        problem.represent({"context": params["context"].requires_grad_()})
    assert free / 8 < count() < free / 2
