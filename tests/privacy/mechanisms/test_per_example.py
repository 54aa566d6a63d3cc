"""Per-example gradients against one example at a time, for every method that trains."""

from dataclasses import replace

import pytest
import torch

from pfedmoap.client.privatizer import NoPrivacy
from pfedmoap.methods.registry import method_class
from pfedmoap.prompts.tuning import PromptProblem
from privacy.mechanisms.per_example import per_example_gradients
from tests.helpers.models import rounding, tiny_clip
from tests.helpers.training_steps import ENCODERS, last_steps, with_weights


@pytest.fixture
def setting(setting, device):
    """The task with its model on each device, in place of the CPU's alone."""
    return replace(setting, backbone=tiny_clip(device=device))


def one_at_a_time(problem, params, batch):
    """The obvious slow truth: one backward pass for each example of each client."""
    found = {name: [] for name in params}
    losses = []
    for i in range(batch.labels.shape[1]):
        alone = torch.zeros_like(batch.weight)
        alone[:, i] = 1
        gradients, loss = NoPrivacy().gradients(problem, params, with_weights(batch, alone))
        nothing, _ = NoPrivacy().gradients(problem, params, with_weights(batch, 0 * alone))
        losses.append(loss)
        for name in params:  # the penalty is no part of an example's gradient
            found[name].append(gradients[name] - nothing[name])
    return {name: torch.stack(each, dim=1) for name, each in found.items()}, torch.stack(losses, 1)


def assert_exact(problem, params, batch, memory_bytes=2**30):
    truth, losses = one_at_a_time(problem, params, batch)
    chunks = list(per_example_gradients(problem, params, batch, memory_bytes))
    near = rounding(losses.device)
    assert torch.allclose(torch.cat([each for _, each in chunks], dim=1), losses, rtol=near)
    found = {name: torch.cat([samples[name] for samples, _ in chunks], dim=1) for name in params}
    assert all(found[name].shape == truth[name].shape for name in params)
    gap = joint_norm({name: found[name] - truth[name] for name in params})
    assert bool((gap <= near * joint_norm(truth)).all())
    return len(chunks)


def joint_norm(samples):
    """Norm of each example's gradient over all parameters together, (K, B)."""
    return torch.cat([value.flatten(2) for value in samples.values()], dim=2).norm(dim=2)


@pytest.mark.parametrize("decoupled", [False, True])
def test_every_method_has_exact_per_example_gradients(joint_method, decoupled, data):
    steps = last_steps(joint_method, data, decoupled)
    assert steps
    for problem, params, batch in steps:
        assert_exact(problem, params, batch)


@pytest.mark.parametrize("kind", ENCODERS)
def test_every_encoder_has_exact_per_example_gradients(kind, setting, data):
    problem, params, batch = last_steps(method_class("promptfl")(setting), data)[0]
    length = params["context"].shape[1]
    encoder = setting.backbone.prompt_encoder(setting.class_names, length, **ENCODERS[kind])
    assert_exact(PromptProblem(encoder, problem.scale), params, batch)


def test_a_memory_bound_takes_examples_in_chunks(setting, data):
    problem, params, batch = last_steps(method_class("pfedmoap")(setting), data)[0]
    assert assert_exact(problem, params, batch, memory_bytes=1) == batch.labels.shape[1]
    assert assert_exact(problem, params, batch) == 1


def test_no_client_sees_another_ones_examples(setting, data):
    problem, params, batch = last_steps(method_class("pfedmoap")(setting), data)[0]
    before = next(per_example_gradients(problem, params, batch, 2**30))[0]
    labels = batch.labels.clone()
    labels[0] = (labels[0] + 1) % len(setting.class_names)
    changed = type(batch)(batch.features, labels, batch.weight, batch.streams)
    after = next(per_example_gradients(problem, params, changed, 2**30))[0]
    for name in params:
        assert not torch.allclose(before[name][0], after[name][0])
        assert torch.allclose(before[name][1:], after[name][1:], rtol=0, atol=1e-7)
