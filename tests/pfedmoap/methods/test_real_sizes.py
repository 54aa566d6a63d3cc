"""The parts at the sizes of ViT-B/16 (D = 512) and RN50 (D = 1024), and up to 1,000 classes.

Towers are not needed for it: features are random, of unit norm.
"""

import open_clip
import pytest
import torch
from torch.func import vmap
from torch.nn import functional as F

from pfedmoap.methods.evidence_mixture.evidence import (
    likelihoods,
    log_probabilities,
    mix,
    weigh,
    weigh_without_each,
    with_own,
)
from pfedmoap.methods.evidence_mixture.residual_head import fit_head
from pfedmoap.methods.pfedmoap.attention_gate import AttentionGate, gate_width
from pfedmoap.methods.pfedmoap.mixture import Mixture
from pfedmoap.server.expert_pool import ExpertPool
from pfedmoap.wire.messages import ClientId
from privacy.mechanisms.noisy_sum import NoisySum
from privacy.mechanisms.randomness import SecureStream

SIZES = [(512, 100), (1024, 1000)]  # width D, and classes C
EXPERTS = 10  # the own prompt among them


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


@pytest.mark.parametrize(
    ("model", "dim", "text"), [("ViT-B-16", 512, 512), ("RN50", 1024, 512), ("ViT-L-14", 768, 768)]
)
def test_the_papers_gate_is_narrower_than_features_of_every_clip(model, dim, text):
    config = open_clip.get_model_config(model)
    assert (config["embed_dim"], config["text_cfg"]["width"]) == (dim, text)
    assert gate_width(dim, heads=8) == 128 < dim


@pytest.mark.parametrize(("dim", "classes"), SIZES)
def test_gates_side_by_side_are_those_of_each_client_alone(dim, classes):
    gates = [AttentionGate(scale=10.0, seed=seed) for seed in range(2)]
    mixture = Mixture(gates[0], scale=100.0, own_weight=0.5)
    weights = {
        name: torch.stack([gate.state_dict()[name] for gate in gates])
        for name in gates[0].state_dict()
    }
    image, text = unit(2, 4, dim), unit(2, EXPERTS, classes, dim, seed=1)
    logits, attention = vmap(mixture.logits)(weights, image, text)
    assert logits.shape == (2, 4, classes)
    assert attention.shape == (2, 4, classes, EXPERTS)
    torch.testing.assert_close(attention.sum(-1), torch.ones(2, 4, classes), atol=1e-5, rtol=0)
    for k, gate in enumerate(gates):
        scores, _ = gate(image[k], text[k])
        own = 100 * image[k] @ text[k, 0].T
        torch.testing.assert_close(logits[k], 100 * scores + 0.5 * own, atol=1e-3, rtol=0)


@pytest.mark.parametrize(("dim", "classes"), SIZES)
def test_evidence_in_float32_is_that_of_float64(dim, classes):
    """Likelihoods of 16 images are down to exp(-1000) here, and one expert may have all weight."""
    stream = torch.Generator().manual_seed(3)
    labels = torch.randint(classes, (16,), generator=stream)
    text = unit(EXPERTS, classes, dim, seed=4)
    image = F.normalize(text[3, labels] + unit(16, dim, seed=5), dim=-1)

    def mixture(kind: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        known = log_probabilities(image.to(kind), text.to(kind), 100.0)
        likelihood = likelihoods(known, labels)[1:]
        weights = with_own(weigh(likelihood, 0.3), 1.0)
        return weights, mix(known, with_own(weigh_without_each(likelihood, 0.3), 1.0))

    weights, found = mixture(torch.float32)
    exact_weights, exact = mixture(torch.float64)
    assert int(weights.argmax()) == 3
    torch.testing.assert_close(weights.double(), exact_weights, atol=1e-5, rtol=0)
    assert bool(found.isfinite().all())
    torch.testing.assert_close(found.exp().sum(-1), torch.ones(16), atol=1e-4, rtol=0)
    torch.testing.assert_close(found.double().exp(), exact.exp(), atol=1e-4, rtol=0)
    head = fit_head(image, labels, found, 4.0)
    assert head.shape == (classes, dim)
    before, after = (F.cross_entropy(logits, labels) for logits in (found, found + image @ head.T))
    assert after < before


@pytest.mark.parametrize("width", [512, 768])
def test_experts_among_prompts_of_real_size_are_the_true_nearest(width):
    stream = torch.Generator().manual_seed(width)
    shared = 0.02 * torch.randn(16, width, generator=stream)
    moves = torch.randn(150, 8, generator=stream) @ torch.randn(8, 16 * width, generator=stream)
    prompts = shared + 1e-3 * moves.view(150, 16, width)
    prompts[70] = prompts[31]
    pool = ExpertPool({ClientId(i): prompt for i, prompt in enumerate(prompts)})
    flat = prompts.flatten(1).double()
    for client in (0, 31, 70, 149):
        gaps = (flat - flat[client]).norm(dim=1)
        order = sorted((float(gap), i) for i, gap in enumerate(gaps) if i != client)
        found = pool.nearest(ClientId(client), 9)
        assert [expert.client for expert in found] == [i for _, i in order[:9]]
        assert [expert.distance for expert in found] == pytest.approx([gap for gap, _ in order[:9]])


def test_a_private_sum_of_prompt_and_gate_keeps_its_sensitivity_and_its_noise():
    """16 x 512 numbers of the prompt and those of the paper's gate, clipped and noised together."""
    gate = AttentionGate().state_dict()
    like = {"context": torch.zeros(16, 512), **{n: torch.zeros_like(v) for n, v in gate.items()}}
    count = sum(value.numel() for value in like.values())
    assert count == 16 * 512 + 4 * (128**2 + 128)
    stream = torch.Generator().manual_seed(1)
    vectors = {n: torch.randn(3, *v.shape, generator=stream) for n, v in like.items()}

    def summed(rows: slice, noise: float) -> torch.Tensor:
        total = NoisySum(
            like,
            noise_multiplier=noise,
            max_norm=0.5,
            normaliser=1.0,
            stream=SecureStream(bytes(32)),
        )
        total.add({name: value[rows] for name, value in vectors.items()})
        return torch.cat([value.flatten() for value in total.finish().values()]).double()

    moved = summed(slice(0, 3), 0.0) - summed(slice(1, 3), 0.0)
    assert float(moved.norm()) == pytest.approx(0.5, rel=1e-5)
    noise = summed(slice(0, 3), 2.0) - summed(slice(0, 3), 0.0)
    assert float(noise.std()) == pytest.approx(2.0 * 0.5, rel=0.02)  # seven standard errors
