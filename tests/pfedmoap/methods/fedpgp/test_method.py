"""FedPGP: the residual's rank, the contrastive loss, and what travels."""

import math

import pytest
import torch
from torch.nn import functional as F

from pfedmoap.errors import ConfigError
from pfedmoap.methods.fedpgp.method import FedPGP
from pfedmoap.prompts.tuning import template_features
from pfedmoap.wire.messages import ClientId


def test_residual_has_the_declared_rank_and_stays_on_the_client(small, setting):
    world = small(FedPGP(setting, rank=3))
    _, local_states, results = world.rounds(2)
    for local in local_states.values():
        assert set(local) == {"u", "v"}
        residual = local["u"] @ local["v"]
        assert residual.shape == (16, 32)
        assert int(torch.linalg.matrix_rank(residual)) == 3
    assert all(set(result.update.arrays) == {"context"} for result in results)


def test_both_factors_are_trained(small, setting):
    method = FedPGP(setting)
    _, local_states, _ = small(method).rounds(1)
    for name in ("u", "v"):
        moved = local_states[ClientId(4)][name] - method.own[name]
        assert float(moved.norm()) > 1e-5


def test_loss_equals_the_papers_equation_written_out(setting, data):
    method = FedPGP(setting, mu=0.7, temperature=0.3)
    encoder, scale = method.encoder, setting.backbone.logit_scale
    written = template_features(setting)
    stream = torch.Generator().manual_seed(2)
    params = {
        "context": torch.randn(2, 16, 32, generator=stream),
        "u": torch.randn(2, 16, 4, generator=stream),
        "v": torch.randn(2, 4, 32, generator=stream),
    }
    problem = method.problem(params)
    image = torch.stack([data[ClientId(4)].view()["image"][:3]] * 2)
    labels = torch.tensor([[0, 1, 2], [2, 1, 0]])
    with torch.no_grad():
        shared = problem.represent(params)
        losses = problem.losses(params, shared, {"image": image}, labels)
        for k in range(2):
            common = encoder(params["context"][k : k + 1])[0]
            personal = encoder((params["context"][k] + params["u"][k] @ params["v"][k])[None])[0]
            contrast = 0.0
            for c in range(3):
                positive = math.exp(float(common[c] @ written[c]) / 0.3)
                negative = math.exp(float(common[c] @ personal[c]) / 0.3)
                contrast -= math.log(positive / (positive + negative)) / 3
            truth = F.cross_entropy(scale * image[k] @ personal.T, labels[k], reduction="none")
            assert torch.allclose(losses[k], truth + 0.7 * contrast, atol=1e-4)


def test_contrast_draws_the_global_prompt_to_the_written_one(small, setting):
    written = template_features(setting)

    def agreement(mu):
        method = FedPGP(setting, mu=mu)
        state, _, _ = small(method).rounds(3)
        return float((method.encoder(state["context"][None])[0] * written).sum(-1).mean())

    assert agreement(30.0) > agreement(0.0)


def test_newcomer_predicts_with_the_common_initial_residual(small, setting, data):
    method = FedPGP(setting)
    state, _, _ = small(method).rounds(1, [ClientId(0)])
    (download,) = method.plan(state, [ClientId(7)], 2)
    given = method.predict(download, None, data[ClientId(7)].view()).logits
    same = method.predict(download, method.own, data[ClientId(7)].view()).logits
    assert torch.equal(given, same)


@pytest.mark.parametrize("options", [{"rank": 0}, {"rank": 17}, {"mu": -1.0}, {"temperature": 0.0}])
def test_nonsense_options_are_refused(setting, options):
    with pytest.raises(ConfigError):
        FedPGP(setting, **options)
