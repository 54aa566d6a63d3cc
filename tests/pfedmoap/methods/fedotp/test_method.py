"""FedOTP: scores against a loop over images and classes, and what travels."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from pfedmoap.errors import BackboneError, ConfigError
from pfedmoap.methods.fedotp.method import FedOTP
from pfedmoap.methods.fedotp.optimal_transport import transport_plan
from pfedmoap.methods.fedotp.transport_problem import Transport
from pfedmoap.wire.messages import ClientId


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_scores_equal_a_loop_over_clients_images_and_classes():
    patches, text = unit(2, 3, 5, 8), unit(2, 2, 4, 8, seed=1)  # (K, B, M, D), (K, P, C, D)
    transport = Transport(0.8, 0.1, 100)
    scores = transport.scores(patches, text)
    for k in range(2):
        for b in range(3):
            for c in range(4):
                cosine = patches[k, b] @ text[k, :, c].T  # (M, P)
                plan = transport_plan(1 - cosine, 0.8, 0.1, 100)
                assert float(scores[k, b, c]) == pytest.approx(
                    float((plan * cosine).sum()), abs=1e-6
                )


def test_gradient_flows_through_the_cosines_and_not_the_plan():
    patches, text = unit(3, 5, 8), unit(2, 4, 8, seed=1).requires_grad_()
    scores = Transport(0.8, 0.1, 50).scores(patches, text)
    (gradient,) = torch.autograd.grad(scores[0, 1], text)
    plan = transport_plan(1 - patches[0] @ text[:, 1].detach().T, 0.8, 0.1, 50)
    assert torch.allclose(gradient[:, 1], plan.T @ patches[0], atol=1e-6)
    assert float(gradient[:, 0].abs().max()) == 0


def test_two_equal_prompts_and_full_mass_give_the_mean_cosine():
    patches, one = unit(3, 5, 8), unit(1, 4, 8, seed=1)
    scores = Transport(1.0, 0.1, 200).scores(patches, one.expand(2, -1, -1))
    assert torch.allclose(scores, (patches @ one[0].T).mean(1), atol=1e-5)


def test_own_context_is_trained_and_stays(small, setting):
    method = FedOTP(setting)
    _, local_states, results = small(method).rounds(2)
    own = torch.stack([local["own"] for local in local_states.values()])
    assert float((own - own.mean(0)).norm()) > 1e-3
    assert all(set(result.update.arrays) == {"context"} for result in results)
    assert not torch.allclose(method.own["own"], method.init()["context"], atol=1e-3)


def test_evaluation_uses_the_new_average_with_the_own_context(small, setting, data):
    method = FedOTP(setting)
    state, local_states, _ = small(method).rounds(1)
    me = ClientId(4)
    (download,) = method.plan(state, [me], 2)
    view = data[me].view()
    text = method.encoder(torch.stack([state["context"], local_states[me]["own"]]))
    truth = Transport(0.8, 0.1, 100).scores(view["patches"], text)
    logits = method.predict(download, local_states[me], view).logits
    assert torch.allclose(logits, setting.backbone.logit_scale * truth, atol=1e-4)


def test_backbone_without_patches_is_refused_before_training(setting):
    def refuse(kinds):
        raise BackboneError(f"no {kinds}")

    backbone = SimpleNamespace(require_features=refuse)
    with pytest.raises(BackboneError, match="patches"):
        FedOTP(replace(setting, backbone=backbone))


def test_nonsense_options_are_refused(setting):
    with pytest.raises(ConfigError, match="mass"):
        FedOTP(setting, mass=2.0)
