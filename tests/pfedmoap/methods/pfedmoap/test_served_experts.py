"""Served experts on the wire, and the vote of a newcomer's."""

import pytest
import torch

from pfedmoap.client.local_training import Training
from pfedmoap.contract.tasks import ClientData, ClientTask, Setting
from pfedmoap.methods.pfedmoap.served_experts import (
    EXPERTS,
    GUESTS,
    OWNERS,
    encode_experts,
    expert_count,
    expert_owners,
    held_experts,
    newcomers_vote,
    pack_experts,
    pack_guests,
    stack_experts,
)
from pfedmoap.prompts.encoding import EncodedOnce
from pfedmoap.prompts.tuning import classify
from pfedmoap.server.expert import Expert
from pfedmoap.wire.messages import Arrays, ClientId, Download
from tests.helpers.models import CLASS_NAMES

CONTEXT = torch.zeros(2, 32)


@pytest.fixture(scope="module")
def setting(clip) -> Setting:
    return Setting(clip, CLASS_NAMES, Training(clients_per_batch=2))


@pytest.fixture(scope="module")
def encoder(setting):
    return setting.backbone.prompt_encoder(CLASS_NAMES, len(CONTEXT))


def experts(*clients: int) -> list[Expert]:
    return [Expert(ClientId(c), torch.full_like(CONTEXT, c / 10), float(c)) for c in clients]


def task(client: int, arrays: Arrays) -> ClientTask:
    return ClientTask(Download(1, ClientId(client), arrays), None, ClientData({}, torch.zeros(0)))


@pytest.mark.parametrize("clients", [(), (3,), (7, 2, 5)])
def test_packed_experts_keep_order_shape_and_owners(clients):
    served = experts(*clients)
    packed = pack_experts(served, CONTEXT)
    assert packed[EXPERTS].shape == (len(clients), 2, 32)
    assert packed[OWNERS].dtype == torch.int64
    assert expert_owners(packed) == clients
    for expert, context in zip(served, packed[EXPERTS], strict=True):
        assert torch.equal(expert.context, context)
    assert expert_count(task(0, packed)) == len(clients)


def test_a_client_keeps_its_experts_and_nothing_else_of_what_it_was_sent():
    packed = pack_experts(experts(3), CONTEXT)
    sent = {"context": CONTEXT, **packed}
    assert held_experts(sent) == packed
    assert held_experts({"context": CONTEXT, **pack_guests(experts(3))}) == {}
    assert expert_count(task(0, {"context": CONTEXT})) is None


def test_encoded_once_and_stacked_they_are_what_the_encoder_says(setting, encoder):
    first, second = experts(1, 2), experts(2, 4)
    tasks = [task(i, pack_experts(served, CONTEXT)) for i, served in enumerate((first, second, []))]
    calls: list[int] = []

    def counting(contexts: torch.Tensor) -> torch.Tensor:
        calls.append(len(contexts))
        found: torch.Tensor = encoder(contexts)
        return found

    features = encode_experts(tasks, EncodedOnce(counting, 10, setting.backbone.device))
    assert sum(calls) == 3  # expert 2 serves two clients
    stacked = stack_experts(tasks[:2], features, setting)
    truth = [encoder(expert.context[None])[0] for expert in (*first, *second)]
    expected = torch.stack(truth).view_as(stacked)
    torch.testing.assert_close(stacked, expected, atol=1e-6, rtol=0)
    assert stack_experts(tasks[2:], features, setting).shape == (1, 0, len(CLASS_NAMES), 128)


@pytest.mark.parametrize("guests", [(), (4,), (4, 9)])
def test_newcomers_prompts_have_equal_votes(setting, encoder, guests):
    image = torch.nn.functional.normalize(torch.randn(6, 128), dim=-1)
    served = experts(*guests)
    sent = {"context": CONTEXT, **(pack_guests(served) if served else {})}
    assert (GUESTS in sent) == bool(guests)
    votes = [
        classify(encoder, prompt, setting, image).logits
        for prompt in (CONTEXT, *(expert.context for expert in served))
    ]
    answer = newcomers_vote(encoder, sent, setting, image)
    torch.testing.assert_close(answer.logits, sum(votes) / len(votes))
    assert answer.attention is None
