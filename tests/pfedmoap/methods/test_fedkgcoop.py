"""FedKgCoOp: the distance to hand-written class features, and what it does."""

import pytest
import torch
from torch.nn import functional as F

from pfedmoap.errors import ConfigError
from pfedmoap.methods.fedkgcoop import FedKgCoOp
from pfedmoap.methods.promptfl import PromptFL
from pfedmoap.prompts.tuning import template_features
from pfedmoap.wire.messages import ClientId


def test_loss_equals_the_papers_equation_written_out(setting, data):
    method = FedKgCoOp(setting, strength=3.0)
    written = template_features(setting)
    params = {"context": torch.randn(2, 16, 32, generator=torch.Generator().manual_seed(2))}
    image = torch.stack([data[ClientId(4)].view()["image"][:3]] * 2)
    labels = torch.tensor([[0, 1, 2], [2, 1, 0]])
    problem = method.problem(params)
    with torch.no_grad():
        losses = problem.losses(params, problem.represent(params), {"image": image}, labels)
        for k in range(2):
            text = method.encoder(params["context"][k : k + 1])[0]
            apart = sum(float((text[c] - written[c]).norm()) ** 2 for c in range(3)) / 3
            logits = setting.backbone.logit_scale * image[k] @ text.T
            truth = F.cross_entropy(logits, labels[k], reduction="none") + 3.0 * apart
            assert torch.allclose(losses[k], truth, atol=1e-4)


def test_without_strength_it_is_promptfl(small, setting):
    guided, _, _ = small(FedKgCoOp(setting, strength=0.0)).rounds(2)
    plain, _, _ = small(PromptFL(setting)).rounds(2)
    assert torch.allclose(guided["context"], plain["context"], atol=1e-6)


def test_strength_keeps_the_average_near_the_written_prompt(small, setting):
    written = template_features(setting)

    def distance(strength):
        method = FedKgCoOp(setting, strength=strength)
        state, _, _ = small(method).rounds(3)
        return float((method.encoder(state["context"][None])[0] - written).square().sum())

    assert distance(30.0) < distance(0.0)


@pytest.mark.parametrize("options", [{"strength": -1.0}, {"template": "a photo"}])
def test_nonsense_options_are_refused(setting, options):
    with pytest.raises(ConfigError):
        FedKgCoOp(setting, **options)
