"""PromptFolio: the mixture of two prompts, its two ends, and what travels."""

import pytest
import torch
from torch.nn import functional as F

from pfedmoap.errors import ConfigError
from pfedmoap.methods.promptfl import PromptFL
from pfedmoap.methods.promptfolio import PromptFolio
from pfedmoap.wire.messages import ClientId

ME = ClientId(4)


def test_logits_are_those_of_the_mixed_features(setting, data):
    method = PromptFolio(setting, theta=0.3)
    stream = torch.Generator().manual_seed(2)
    shared, own = torch.randn(2, 16, 32, generator=stream)
    image = data[ME].view()["image"]
    with torch.no_grad():
        first, second = method.encoder(torch.stack([shared, own]))
        truth = setting.backbone.logit_scale * image @ (0.7 * first + 0.3 * second).T
    found = method.classify({"context": shared, "own": own}, {"image": image}).logits
    assert torch.allclose(found, truth, atol=1e-4)


def test_both_prompts_are_trained_and_one_travels(small, setting):
    method = PromptFolio(setting)
    start = method.init()["context"]
    state, local_states, results = small(method).rounds(2)
    assert all(set(result.update.arrays) == {"context"} for result in results)
    assert all(set(local) == {"own"} for local in local_states.values())
    assert float((state["context"] - start).norm()) > 1e-4
    assert float((local_states[ME]["own"] - method.own["own"]).norm()) > 1e-4
    assert not torch.equal(start, method.own["own"])


def test_the_gradient_is_shared_as_the_weights_say(setting, data):
    """With equal prompts, the global one feels (1 - theta) of a gradient and the own one theta."""
    method = PromptFolio(setting, theta=0.25)
    start = method.init()["context"][None]
    params = {"context": start.clone().requires_grad_(), "own": start.clone().requires_grad_()}
    problem = method.problem(params)
    image, labels = data[ME].view()["image"][None], data[ME].labels[None]
    losses = problem.losses(params, problem.represent(params), {"image": image}, labels)
    losses.mean().backward()
    shared, own = params["context"].grad, params["own"].grad
    assert torch.allclose(shared, 3 * own, atol=1e-5)
    text = method.encoder(start)[0]
    truth = F.cross_entropy(
        setting.backbone.logit_scale * image[0] @ text.T, labels[0], reduction="none"
    )
    assert torch.allclose(losses[0], truth, atol=1e-4)


def test_without_weight_on_the_own_prompt_it_is_promptfl(small, setting):
    mixed, _, _ = small(PromptFolio(setting, theta=0.0)).rounds(2)
    plain, _, _ = small(PromptFL(setting)).rounds(2)
    assert torch.allclose(mixed["context"], plain["context"], atol=1e-5)


def test_the_global_model_is_the_global_prompt_alone(small, setting, data):
    method = PromptFolio(setting, theta=0.5)
    state, local_states, _ = small(method).rounds(2)
    image = data[ME].view()
    alone = method.predict_global(state, image).logits
    (download,) = method.plan(state, [ME], 3)
    assert torch.allclose(alone, PromptFL(setting).classify(state, image).logits, atol=1e-5)
    assert not torch.allclose(
        alone, method.predict(download, local_states[ME], image).logits, atol=1e-3
    )


@pytest.mark.parametrize("theta", [-0.1, 1.1])
def test_nonsense_options_are_refused(setting, theta):
    with pytest.raises(ConfigError, match="theta"):
        PromptFolio(setting, theta=theta)
