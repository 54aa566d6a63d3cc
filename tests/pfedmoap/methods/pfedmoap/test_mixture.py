"""The mixture problem of several clients against one client at a time, and the released form."""

import pytest
import torch
from torch.nn import functional as F

from pfedmoap.client.batches import Cohort, StackedData, Stream, shuffled_epochs
from pfedmoap.client.local_training import Stepping, Training, train_locally
from pfedmoap.client.privatizer import NoPrivacy
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


CLASSES, LENGTH, WORDS = 6, 4, 8


def encode(dim: int):
    """A stand-in for the text tower: from contexts (K, L, W) to unit class features (K, C, D)."""
    mix = torch.randn(LENGTH * WORDS, CLASSES * dim, generator=torch.Generator().manual_seed(9))
    shift = unit(CLASSES, dim, seed=8)
    return lambda contexts: F.normalize(
        (contexts.flatten(1) @ mix).unflatten(1, (CLASSES, dim)) * 0.1 + shift, dim=-1
    )


def released_loss(weights, context, encoder, experts, image, labels):
    """The released form, class by class and head by head: every (D / 128)-th coordinate, and 10.0.

    Eq. 8 to 11 with sim as a dot product, s = 100 and lambda = 0.5.
    """
    own = encoder(context[None])[0]
    stride = own.shape[-1] // 128

    def linear(name: str, value: torch.Tensor) -> torch.Tensor:
        return value @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    query = linear("query", image[:, ::stride])
    logits = []
    for c in range(CLASSES):
        served = torch.stack([own[c], *experts[:, c]])[:, ::stride]  # (1 + k, 128)
        key, value = linear("key", served), linear("value", served)
        heads = []
        for part in torch.arange(128).split(16):
            attention = (10.0 * query[:, part] @ key[:, part].T).softmax(-1)
            heads.append(attention @ value[:, part])
        mixed = linear("output", torch.cat(heads, dim=-1))
        agreement = (image[:, ::stride] * mixed).sum(-1)
        logits.append(100 * agreement + 0.5 * 100 * image @ own[c])
    return F.cross_entropy(torch.stack(logits, dim=1), labels)


@pytest.mark.parametrize("dim", [512, 1024])
def test_released_form_agrees_in_loss_gradient_and_five_steps(dim):
    """Strides, scale 10.0, SGD at .002 and .01: within 1e-5 of a slow version of its own."""
    gate = AttentionGate(scale=10.0)
    encoder, experts = encode(dim), unit(3, CLASSES, dim, seed=1)
    image, labels = unit(20, 1, dim, seed=2), torch.arange(20) % CLASSES
    start = 0.02 * torch.randn(LENGTH, WORDS, generator=torch.Generator().manual_seed(3))
    initial = {GATE + name: value for name, value in gate.state_dict().items()}
    rates = {"context": 0.002, **dict.fromkeys(initial, 0.01)}
    training = Training(epochs=1, batch_size=4)
    stream = (Stream(0, 0, 1),)
    trained = train_locally(
        MixtureProblem(encoder, Mixture(gate, 100.0, 0.5), experts[None]),
        {"context": start[None], **{name: value[None] for name, value in initial.items()}},
        Cohort(StackedData({"image": image[None]}, labels[None]), (20,), stream),
        Stepping(training, rates, NoPrivacy()),
    )

    slow = {name.removeprefix(GATE): value.clone() for name, value in initial.items()}
    slow["context"] = start.clone()
    for value in slow.values():
        value.requires_grad_()
    gates = [value for name, value in slow.items() if name != "context"]
    optimiser = torch.optim.SGD(
        [{"params": [slow["context"]], "lr": 0.002}, {"params": gates, "lr": 0.01}],
        momentum=0.9,
        weight_decay=5e-4,
    )
    plan = shuffled_epochs([20], 1, stream, 1, 4)
    assert len(plan.index) == 5
    for index in plan.index[:, 0]:
        loss = released_loss(
            slow, slow["context"], encoder, experts, image[index, 0], labels[index]
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    for name, value in trained.params.items():
        expected = slow[name.removeprefix(GATE)].detach()
        before = start if name == "context" else initial[name]
        assert (value[0] - expected).abs().max() < 1e-5, name
        moved = (expected - before).abs().max()
        if moved > 1e-4:  # the key's bias shifts all scores alike, and does not learn
            assert (value[0] - expected).abs().max() < 1e-3 * moved, name


@pytest.mark.parametrize("dim", [512, 1024])
def test_released_form_agrees_in_each_gradient(dim):
    gate = AttentionGate(scale=10.0)
    encoder, experts = encode(dim), unit(3, CLASSES, dim, seed=1)
    image, labels = unit(8, dim, seed=2), torch.arange(8) % CLASSES
    context = torch.zeros(LENGTH, WORDS, requires_grad=True)
    weights = {name: value.requires_grad_() for name, value in gate.state_dict().items()}
    problem = MixtureProblem(encoder, Mixture(gate, 100.0, 0.5), experts[None])
    params = {"context": context[None], **{GATE + n: v[None] for n, v in weights.items()}}
    shared = problem.represent(params)
    found = problem.losses(params, shared, {"image": image[None]}, labels[None]).mean()
    truth = released_loss(weights, context, encoder, experts, image, labels)
    assert float(found.detach()) == pytest.approx(float(truth.detach()), rel=1e-5)
    leaves = [context, *weights.values()]
    for one, other in zip(
        torch.autograd.grad(found, leaves), torch.autograd.grad(truth, leaves), strict=True
    ):
        scale = max(float(other.abs().max()), 1e-3)
        assert float((one - other).abs().max()) < 1e-5 * max(scale, 1.0)
