"""The gate against `torch.nn.MultiheadAttention` and hand-computed pooling."""

import pytest
import torch
from torch import nn

from pfedmoap.errors import ConfigError, ShapeError
from pfedmoap.methods.pfedmoap.attention_gate import AttentionGate, pool_features


def reference(gate: AttentionGate, image, experts):
    """Score class by class with PyTorch's own attention (scaling 1/sqrt(d))."""
    attention = nn.MultiheadAttention(gate.width, gate.heads, batch_first=True)
    with torch.no_grad():
        attention.in_proj_weight.copy_(
            torch.cat([gate.query.weight, gate.key.weight, gate.value.weight])
        )
        attention.in_proj_bias.copy_(torch.cat([gate.query.bias, gate.key.bias, gate.value.bias]))
        attention.out_proj.weight.copy_(gate.output.weight)
        attention.out_proj.bias.copy_(gate.output.bias)
        query = pool_features(image, gate.width, gate.pooling)
        scores, weights = [], []
        for c in range(experts.shape[1]):
            keys = pool_features(experts[:, c], gate.width, gate.pooling)
            keys = keys.expand(len(image), -1, -1)
            mixed, weight = attention(query[:, None], keys, keys)
            scores.append((query * mixed[:, 0]).sum(-1))
            weights.append(weight[:, 0])
    return torch.stack(scores, 1), torch.stack(weights, 1)


@pytest.mark.parametrize("experts", [1, 2, 7])
@pytest.mark.parametrize("pooling", ["average", "strided"])
def test_gate_equals_multihead_attention(experts, pooling):
    gate = AttentionGate(width=32, heads=4, pooling=pooling)
    image, features = torch.randn(5, 64), torch.randn(experts, 6, 64)
    scores, attention = gate(image, features)
    expected_scores, expected_attention = reference(gate, image, features)
    torch.testing.assert_close(scores, expected_scores)
    torch.testing.assert_close(attention, expected_attention)


def test_permuting_experts_leaves_scores_unchanged():
    gate = AttentionGate(width=32, heads=4)
    image, experts = torch.randn(5, 64), torch.randn(4, 6, 64)
    order = torch.tensor([2, 0, 3, 1])
    scores, attention = gate(image, experts)
    permuted, permuted_attention = gate(image, experts[order])
    torch.testing.assert_close(permuted, scores)
    torch.testing.assert_close(permuted_attention, attention[..., order])


def test_released_scaling_is_forty_times_sharper():
    assert AttentionGate(scale=10.0).scale / AttentionGate().scale == 40
    image, experts = torch.randn(5, 16), torch.randn(2, 6, 16)
    soft = AttentionGate(width=16, heads=1)(image, experts)[1].logit()
    sharp = AttentionGate(width=16, heads=1, scale=1.0)(image, experts)[1].logit()
    torch.testing.assert_close(sharp / soft, torch.full_like(soft, 4.0), rtol=1e-2, atol=0)


def test_initial_gate_depends_on_the_seed_alone():
    first, second = AttentionGate(seed=0), AttentionGate(seed=0)
    assert all(
        torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True)
    )
    assert not torch.equal(AttentionGate(seed=1).query.weight, first.query.weight)
    assert sum(p.numel() for p in first.parameters()) == 4 * (128**2 + 128)


def test_pooling_by_hand():
    features = torch.arange(8.0)
    assert pool_features(features, 4, "average").tolist() == [0.5, 2.5, 4.5, 6.5]
    assert pool_features(features, 4, "strided").tolist() == [0, 2, 4, 6]
    assert pool_features(features, 8, "average") is features
    with pytest.raises(ConfigError, match="exceeds"):
        pool_features(features, 16, "average")


def test_impossible_gates_are_refused():
    with pytest.raises(ConfigError, match="multiple"):
        AttentionGate(width=30, heads=8)
    with pytest.raises(ShapeError, match="image width 64"):
        AttentionGate(width=32)(torch.randn(2, 64), torch.randn(1, 3, 32))
