"""Gates by name, and whose a batch of them is."""

import pytest
import torch

from pfedmoap.contract.tasks import ClientTask
from pfedmoap.errors import ConfigError
from pfedmoap.methods.pfedmoap.attention_gate import AttentionGate
from pfedmoap.methods.pfedmoap.control_gates import LinearGate, MeanGate
from pfedmoap.methods.pfedmoap.gates import make_gate, stack_gates
from pfedmoap.methods.pfedmoap.method import PFedMoAP
from pfedmoap.wire.messages import ClientId, Download
from tests.helpers.models import random_data

OPTIONS = {
    "experts": 9,
    "width": "auto",
    "heads": 8,
    "scale": 10.0,
    "pooling": "average",
    "score": "cosine",
    "renormalise": True,
    "seed": 3,
}


@pytest.mark.parametrize(("dim", "width"), [(1024, 128), (512, 128), (128, 64)])
def test_every_option_reaches_the_attention_gate(dim, width):
    gate = make_gate("attention", dim, **OPTIONS)
    assert isinstance(gate, AttentionGate)
    assert (gate.width, gate.heads, gate.scale) == (width, 8, 10.0)
    assert (gate.pooling, gate.score, gate.renormalise) == ("average", "cosine", True)
    other = make_gate("attention", dim, **{**OPTIONS, "seed": 4})
    assert not torch.equal(gate.query.weight, other.query.weight)


def test_control_gates_have_their_sizes():
    linear = make_gate("linear", 512, **OPTIONS)
    assert isinstance(linear, LinearGate)
    assert linear.linear.weight.shape == (10, 512)
    assert isinstance(make_gate("mean", 512, **OPTIONS), MeanGate)


def test_a_gate_wider_than_the_features_is_refused_unless_it_is_not_used():
    wide = {**OPTIONS, "width": 256}
    with pytest.raises(
        ConfigError, match="gate_width 256 exceeds the backbone's feature width 128"
    ):
        make_gate("attention", 128, **wide)
    assert make_gate("linear", 128, **wide)


def test_the_embedded_backbone_pools_by_default(setting):
    """With d_g = D, pooling is the identity, and no figure made there would say anything on it."""
    gate = PFedMoAP(setting).initial_gate["gate.query.weight"]
    assert gate.shape[0] < setting.backbone.embed_dim


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
