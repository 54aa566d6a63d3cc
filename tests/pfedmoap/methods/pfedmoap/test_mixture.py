"""The mixture problem of several clients against one client at a time."""

import torch
from torch.nn import functional as F

from pfedmoap.methods.pfedmoap.attention_gate import AttentionGate
from pfedmoap.methods.pfedmoap.mixture import GATE, Mixture, MixtureProblem


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_each_client_is_scored_with_its_own_gate_prompt_and_experts():
    text = unit(3, 4, 16)  # own prompts' class features, (K, C, D)
    experts = unit(3, 2, 4, 16, seed=1)
    gates = [AttentionGate(8, 2, seed=seed) for seed in range(3)]
    mixture = Mixture(gates[0], scale=10.0, own_weight=0.5)
    problem = MixtureProblem(lambda contexts: text, mixture, experts)
    params = {"context": torch.zeros(3, 1, 1)} | {
        GATE + name: torch.stack([gate.state_dict()[name] for gate in gates])
        for name in gates[0].state_dict()
    }
    image, labels = unit(3, 5, 16, seed=2), torch.arange(15).view(3, 5) % 4
    shared = problem.represent(params)
    losses = problem.losses(params, shared, {"image": image}, labels)
    assert problem.penalty(params).tolist() == [0, 0, 0]
    for k, gate in enumerate(gates):
        scores, _ = gate(image[k], torch.cat([text[k : k + 1], experts[k]]))
        logits = 10 * scores + 0.5 * 10 * image[k] @ text[k].T
        truth = F.cross_entropy(logits, labels[k], reduction="none")
        assert torch.allclose(losses[k], truth, atol=1e-5)
