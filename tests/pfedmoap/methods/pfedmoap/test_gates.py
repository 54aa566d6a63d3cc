"""Gates by name, and whose a batch of them is."""

import pytest
import torch

from pfedmoap.contract.tasks import ClientTask
from pfedmoap.methods.pfedmoap.attention_gate import AttentionGate
from pfedmoap.methods.pfedmoap.control_gates import LinearGate, MeanGate
from pfedmoap.methods.pfedmoap.gates import make_gate, stack_gates
from pfedmoap.wire.messages import ClientId, Download
from tests.helpers.models import random_data


@pytest.mark.parametrize(
    ("name", "kind"), [("attention", AttentionGate), ("linear", LinearGate), ("mean", MeanGate)]
)
def test_each_name_makes_its_gate(name, kind):
    assert type(make_gate(name, lambda: AttentionGate(8, 2), 16, 3, 0)) is kind


def test_a_gate_is_the_clients_own_the_averaged_or_the_initial_one():
    data = random_data([2])[ClientId(0)]
    initial = {"gate.w": torch.zeros(2)}
    sent = Download(2, ClientId(0), {"gate.w": torch.ones(2)})
    own = ClientTask(sent, {"gate.w": torch.full((2,), 5.0)}, data)
    new = ClientTask(sent, None, data)
    cpu = torch.device("cpu")
    local = stack_gates([own, new], initial, False, cpu)["gate.w"]
    assert local.tolist() == [[5, 5], [0, 0]]
    assert stack_gates([own, new], initial, True, cpu)["gate.w"].tolist() == [[1, 1], [1, 1]]
