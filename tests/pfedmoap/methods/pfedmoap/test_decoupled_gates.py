"""Gates that are trained after the prompts: prompts stay, and only those with experts get one."""

import pytest
import torch
from torch.nn import functional as F

from pfedmoap.client.batches import shuffled_epochs
from pfedmoap.client.local_training import Training
from pfedmoap.client.privatizer import NoPrivacy
from pfedmoap.contract.stacking import TrainedClient
from pfedmoap.contract.tasks import ClientTask, Setting
from pfedmoap.methods.pfedmoap.control_gates import LinearGate
from pfedmoap.methods.pfedmoap.decoupled_gates import with_gates
from pfedmoap.methods.pfedmoap.mixture import GATE, Mixture
from pfedmoap.methods.pfedmoap.served_experts import encode_experts, pack_experts
from pfedmoap.methods.registry import method_class
from pfedmoap.prompts.encoding import EncodedOnce
from pfedmoap.server.expert import Expert
from pfedmoap.wire.messages import ClientId, Download
from tests.helpers.models import CLASS_NAMES, random_data

IMAGES = 4


@pytest.fixture(scope="module")
def setting(clip) -> Setting:
    return Setting(clip, CLASS_NAMES, Training(epochs=1, batch_size=IMAGES), seed=5)


@pytest.fixture
def clients() -> list[TrainedClient]:
    """Client 0 was served nobody's prompt, 1 and 2 those of one other client each."""
    tuned = []
    for client, data in random_data([IMAGES] * 3).items():
        context = torch.randn(2, 32)
        served = [Expert(ClientId(9), torch.randn(2, 32), 1.0)]
        arrays = {"context": context, **(pack_experts(served, context) if client else {})}
        task = ClientTask(Download(2, client, arrays), None, data)
        tuned.append(TrainedClient(task, {"context": context + 0.1}, 0.5, 1))
    return tuned


def test_only_gates_of_clients_with_experts_are_trained(setting, clients):
    mixture = Mixture(LinearGate(128, 2, 0), setting.backbone.logit_scale, 0.5)
    encoder = setting.backbone.prompt_encoder(CLASS_NAMES, 2)
    initial = {GATE + name: value for name, value in mixture.gate.state_dict().items()}
    features = encode_experts(
        [client.task for client in clients], EncodedOnce(encoder, 10, setting.backbone.device)
    )

    def start(tasks):
        return {name: torch.stack([value] * len(tasks)) for name, value in initial.items()}

    rates = dict.fromkeys(initial, 0.3)
    found = with_gates(clients, features, encoder, mixture, start, setting, rates)
    assert [set(one.params) for one in found] == [
        {"context"},
        {"context", *initial},
        {"context", *initial},
    ]
    for before, after in zip(clients, found, strict=True):
        assert torch.equal(before.params["context"], after.params["context"])
        assert (before.loss, before.steps) == (after.loss, after.steps)
    # One step on one batch of all images, worked out by autograd on this client alone.
    me = found[1]
    data = me.task.data
    text = encoder(torch.cat([me.params["context"][None], me.task.download.arrays["experts"]]))
    gate = {
        name: value.clone().requires_grad_() for name, value in mixture.gate.state_dict().items()
    }
    logits, _ = mixture.logits(gate, data.view()["image"], text.detach())
    F.cross_entropy(logits, data.labels).backward()
    for name, value in gate.items():
        decayed = value.grad + setting.training.weight_decay * value
        torch.testing.assert_close(me.params[GATE + name], (value - 0.3 * decayed).detach())


def test_a_gate_without_parameters_leaves_clients_as_they_are(setting, clients):
    def unused(*_):
        raise AssertionError("nothing is left to train")

    encoder = setting.backbone.prompt_encoder(CLASS_NAMES, 2)
    mixture = Mixture(torch.nn.Identity(), 1.0, 0.5)
    assert with_gates(clients, {}, encoder, mixture, unused, setting, {}) == clients


def test_a_gate_sees_batches_in_another_order_than_its_prompt(clip, clients, monkeypatch):
    drawn = []

    def noted(self, sizes, views, streams, epochs, batch_size, steps):
        plan = shuffled_epochs(sizes, views, streams, epochs, batch_size, steps)
        drawn.append({stream.client: plan.index[:, k] for k, stream in enumerate(streams)})
        return plan

    monkeypatch.setattr(NoPrivacy, "batches", noted)
    setting = Setting(clip, CLASS_NAMES, Training(epochs=8, batch_size=2), seed=5)
    method = method_class("pfedmoap")(setting, experts=1, context_length=2)
    tasks = [client.task for client in clients]

    class Decoupled(NoPrivacy):
        decoupled = True

    method.train(tasks, Decoupled())
    orders = [plan[ClientId(1)] for plan in drawn if ClientId(1) in plan]
    assert len(orders) == 2  # the prompt's, and the gate's
    assert not torch.equal(*orders)
    drawn.clear()
    method.train(tasks, Decoupled())
    again = [plan[ClientId(1)] for plan in drawn if ClientId(1) in plan]
    assert all(torch.equal(*both) for both in zip(orders, again, strict=True))
