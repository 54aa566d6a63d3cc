"""The linear and the mean gate against loops over images and experts."""

import pytest
import torch
from torch.nn import functional as F

from pfedmoap.errors import ConfigError
from pfedmoap.methods.pfedmoap.control_gates import LinearGate, MeanGate


def unit(*shape: int) -> torch.Tensor:
    return F.normalize(torch.randn(shape, generator=torch.Generator().manual_seed(4)), dim=-1)


@pytest.mark.parametrize("served", [1, 2, 4])
def test_linear_gate_equals_a_loop_over_images_and_experts(served):
    gate = LinearGate(width=6, experts=4)
    image, experts = unit(3, 6), unit(served, 5, 6)
    scores, attention = gate(image, experts)
    for b in range(3):
        outputs = gate.linear.weight @ image[b] + gate.linear.bias
        weights = outputs[:served].exp() / outputs[:served].exp().sum()
        truth = sum(weights[e] * (experts[e] @ image[b]) for e in range(served))
        assert torch.allclose(scores[b], truth, atol=1e-6)
        assert torch.allclose(attention[b], weights.expand(5, -1), atol=1e-6)


def test_mean_gate_averages():
    image, experts = unit(3, 6), unit(4, 5, 6)
    scores, attention = MeanGate()(image, experts)
    assert torch.allclose(scores, image @ experts.mean(0).T, atol=1e-6)
    assert torch.equal(attention, torch.full((3, 5, 4), 0.25))


def test_more_experts_than_outputs_are_refused():
    with pytest.raises(ConfigError, match="5 experts are served"):
        LinearGate(width=6, experts=4)(unit(3, 6), unit(5, 2, 6))


def test_weights_follow_the_seed_alone():
    torch.manual_seed(0)
    first = LinearGate(6, 4, seed=3).linear.weight
    torch.manual_seed(1)
    assert torch.equal(first, LinearGate(6, 4, seed=3).linear.weight)
    assert not torch.equal(first, LinearGate(6, 4, seed=5).linear.weight)
