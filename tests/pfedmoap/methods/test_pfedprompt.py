"""pFedPrompt: the memory's logits written out, and that it stays on its client."""

import math
from dataclasses import replace

import pytest
import torch

from eval.contract.federation import SmallFederation
from pfedmoap.client.privatizer import NoPrivacy
from pfedmoap.contract.capabilities import personal_states
from pfedmoap.contract.tasks import ClientData
from pfedmoap.errors import ConfigError
from pfedmoap.methods.pfedprompt import PFedPrompt
from pfedmoap.methods.promptfl import PromptFL
from pfedmoap.wire.messages import ClientId
from tests.helpers.small_federation import make_data

ME = ClientId(4)


def test_memory_equals_the_sum_written_out(setting, data):
    method = PFedPrompt(setting, alpha=0.7, beta=2.0)
    one_view = replace(data[ME], features={"image": data[ME].features["image"][:, :1]})
    (task,) = SmallFederation(method, {ME: one_view}).tasks(method.init(), [ME], 1, {})
    memory = method.personalise([task], NoPrivacy())[ME]
    images = data[ClientId(0)].view()["image"]
    truth = torch.zeros(len(images), 3)
    for row, image in enumerate(images):
        for key, label in zip(one_view.features["image"][:, 0], one_view.labels, strict=True):
            truth[row, label] += 0.7 * math.exp(-2.0 * (1 - float(image @ key)))
    assert torch.allclose(method.remembered(memory, images), truth, atol=1e-5)
    common = method.classify(method.init(), {"image": images}).logits
    found = method.predict(task.download, memory, {"image": images}).logits
    assert torch.allclose(found, common + truth, atol=1e-4)


def test_rounds_are_promptfls_and_the_memory_stays_at_home(small, setting, data):
    method = PFedPrompt(setting)
    world = small(method)
    state, local_states, results = world.rounds(2)
    plain, _, _ = small(PromptFL(setting)).rounds(2)
    assert torch.equal(state["context"], plain["context"])
    assert all(set(result.update.arrays) == {"context"} for result in results)
    tasks = world.tasks(state, list(data), 3, local_states)
    memories = personal_states(method, tasks, NoPrivacy())
    assert "classes" in method.class_bond()
    assert {client: len(memory["labels"]) for client, memory in memories.items()} == {
        client: len(own) for client, own in data.items()
    }


def test_a_memory_tells_apart_what_one_prompt_cannot(setting):
    """Labels that contradict each other between clients: the common prompt is right for half."""
    first = make_data(ME, 12, setting.backbone.embed_dim)
    second = ClientData(first.features, (first.labels + 1) % 3)
    data = {ClientId(1): first, ClientId(2): second}

    def accuracy(alpha):
        method = PFedPrompt(setting, alpha=alpha)
        world = SmallFederation(method, data)
        state, local_states, _ = world.rounds(2)
        memories = personal_states(
            method, world.tasks(state, list(data), 3, local_states), NoPrivacy()
        )
        found = world.predict(state, memories)
        right = [found[client].logits.argmax(-1) == data[client].labels for client in data]
        return float(torch.cat(right).float().mean())

    assert accuracy(0.0) <= 0.5
    assert accuracy(1e4) > 0.9


@pytest.mark.parametrize("options", [{"alpha": -1.0}, {"beta": -1.0}])
def test_nonsense_options_are_refused(setting, options):
    with pytest.raises(ConfigError):
        PFedPrompt(setting, **options)
