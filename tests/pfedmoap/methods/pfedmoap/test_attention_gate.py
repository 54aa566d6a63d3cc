"""The gate against `torch.nn.MultiheadAttention` and hand-computed pooling."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pfedmoap.errors import ConfigError, ShapeError
from pfedmoap.methods.pfedmoap.attention_gate import AttentionGate, gate_width, pool_features


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
        query = pool_features(image, gate.width, gate.pooling, gate.renormalise)
        scores, weights = [], []
        for c in range(experts.shape[1]):
            keys = pool_features(experts[:, c], gate.width, gate.pooling, gate.renormalise)
            keys = keys.expand(len(image), -1, -1)
            mixed, weight = attention(query[:, None], keys, keys)
            scores.append((query * mixed[:, 0]).sum(-1))
            if gate.score == "cosine":
                scores[-1] /= query.norm(dim=-1) * mixed[:, 0].norm(dim=-1)
            weights.append(weight[:, 0])
    return torch.stack(scores, 1), torch.stack(weights, 1)


@pytest.mark.parametrize("experts", [1, 2, 7])
@pytest.mark.parametrize("pooling", ["average", "strided"])
@pytest.mark.parametrize("score", ["dot", "cosine"])
@pytest.mark.parametrize("renormalise", [False, True])
def test_gate_equals_multihead_attention(experts, pooling, score, renormalise):
    gate = AttentionGate(width=32, heads=4, pooling=pooling, score=score, renormalise=renormalise)
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


def clip_like(dim: int, classes: int = 20, images: int = 60, experts: int = 10):
    """Unit vectors with the angles of CLIP: texts near a common one, images far from all texts."""
    stream = torch.Generator().manual_seed(dim)

    def draw(*shape: int) -> torch.Tensor:
        return F.normalize(torch.randn(*shape, dim, generator=stream), dim=-1)

    class_texts = F.normalize(draw() + 0.7 * draw(classes), dim=-1)
    texts = F.normalize(class_texts + 0.3 * draw(experts, classes), dim=-1)
    labels = torch.arange(images) % classes
    image = F.normalize(draw() + 0.5 * draw(images) + 0.35 * class_texts[labels], dim=-1)
    return image, texts, labels


def at_the_start(dim: int, pooling: str) -> tuple[float, float, float]:
    """Pooled norm, spread of logits over classes, and the gate's gradient, before training."""
    image, texts, labels = clip_like(dim)
    gate = AttentionGate(pooling=pooling)
    logits = 100 * gate(image, texts)[0]
    F.cross_entropy(logits, labels).backward()
    gradient = torch.cat([weight.grad.flatten() for weight in gate.parameters()])
    norm = pool_features(image, gate.width, pooling).norm(dim=-1).mean()
    return float(norm), float(logits.detach().std(1).mean()), float(gradient.norm())


@pytest.mark.parametrize("dim", [512, 1024])
def test_strides_keep_what_averages_lose_at_the_widths_of_clip(dim):
    """Averages of unordered coordinates cancel: the gate sees, says and learns little."""
    norm, spread, gradient = at_the_start(dim, "strided")
    faint_norm, faint_spread, faint_gradient = at_the_start(dim, "average")
    assert norm == pytest.approx((128 / dim) ** 0.5, rel=0.1)
    assert faint_norm == pytest.approx(128 / dim, rel=0.1)
    ratio = (dim / 128) ** 0.5
    assert spread / faint_spread > 0.7 * ratio**2  # both factors of the score are smaller
    assert gradient / faint_gradient > 0.7 * ratio**2
    assert AttentionGate().pooling == "strided"


@pytest.mark.parametrize("dim", [512, 1024])
@pytest.mark.parametrize("pooling", ["average", "strided"])
def test_renormalised_features_have_unit_norm_at_every_width(dim, pooling):
    pooled = pool_features(clip_like(dim)[0], 128, pooling, renormalise=True)
    torch.testing.assert_close(pooled.norm(dim=-1), torch.ones(len(pooled)))


def test_a_cosine_does_not_see_how_long_features_are():
    image, texts, _ = clip_like(512)
    gate = AttentionGate(score="cosine")
    with torch.no_grad():
        scores = gate(image, texts)[0]
        gate.query.bias.zero_()
        gate.query.weight.zero_()  # even attention, whatever the image
        short = gate(0.1 * image, texts)[0]
        torch.testing.assert_close(short, gate(image, texts)[0])
    assert scores.abs().max() <= 1


@pytest.mark.parametrize("dim", [8, 16, 40, 128, 512, 768, 1024])
def test_width_by_itself_is_below_the_features_and_fits_the_heads(dim):
    width = gate_width(dim, heads=8)
    assert width % 8 == 0
    assert width <= 128
    assert width < dim or dim == 8  # else pooling would be the identity
    assert AttentionGate(width)(torch.randn(2, dim), torch.randn(3, 4, dim))
