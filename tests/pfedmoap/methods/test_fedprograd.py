"""FedProGrad: the projection against a loop by hand, and what is left of a gradient."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from pfedmoap.client.batches import Stream, shuffled_epochs
from pfedmoap.errors import ConfigError
from pfedmoap.methods.fedprograd import AlignedSGD, FedProGrad
from pfedmoap.methods.promptfl import PromptFL
from pfedmoap.prompts.initial import initial_context
from pfedmoap.prompts.tuning import template_features
from pfedmoap.wire.messages import ClientId

ME = ClientId(4)


def train_by_hand(setting, context, data, round, share, turned):
    """Train one prompt with torch's own SGD along the paper's direction."""
    training, scale = setting.training, setting.backbone.logit_scale
    encoder = setting.backbone.prompt_encoder(setting.class_names, len(context))
    written = template_features(setting)
    leaf = context.clone().requires_grad_()
    sgd = torch.optim.SGD(
        [leaf],
        lr=training.learning_rate,
        momentum=training.momentum,
        weight_decay=training.weight_decay,
    )
    streams = [Stream(setting.seed, ME, round)]
    plan = shuffled_epochs([len(data)], 2, streams, training.epochs, training.batch_size)
    for step in range(len(plan.index)):
        real = plan.weight[step, 0] > 0
        rows, views = plan.index[step, 0][real], plan.view[step, 0][real]
        image, labels = data.features["image"][rows, views], data.labels[rows]
        logits = scale * image @ encoder(leaf[None])[0].T
        (domain,) = torch.autograd.grad(F.cross_entropy(logits, labels), leaf, retain_graph=True)
        zero_shot = (scale * image @ written.T).softmax(-1)
        divergence = (zero_shot * (zero_shot.log() - logits.log_softmax(-1))).sum(-1).mean()
        (general,) = torch.autograd.grad(divergence, leaf)
        product = float((domain * general).sum())
        turned.append(product < 0)
        if product < 0:
            domain = domain - share * product / float(general.square().sum()) * general
        leaf.grad = domain
        sgd.step()
    return leaf.detach()


@pytest.mark.parametrize("share", [1.0, 0.4])
def test_one_client_equals_training_by_hand(share, small, setting, data):
    longer = replace(setting, training=replace(setting.training, epochs=3, learning_rate=0.1))
    state, _, results = small(FedProGrad(longer, share=share)).rounds(2, [ME])
    truth, turned = initial_context(setting.backbone, 16, seed=setting.seed), []
    for round in (1, 2):
        truth = train_by_hand(longer, truth, data[ME], round, share, turned)
    assert any(turned)  # else the projection was not seen
    assert torch.allclose(state["context"], truth, atol=1e-4)
    assert all(set(result.update.arrays) == {"context"} for result in results)


def test_without_a_share_it_is_promptfl(small, setting):
    aligned, _, _ = small(FedProGrad(setting, share=0.0)).rounds(2)
    plain, _, _ = small(PromptFL(setting)).rounds(2)
    assert torch.allclose(aligned["context"], plain["context"], atol=1e-5)


def test_only_what_disagrees_is_dropped():
    """Client 0 disagrees, client 1 agrees, client 2 has no general direction."""
    stream = torch.Generator().manual_seed(3)
    domain = torch.randn(3, 2, 4, generator=stream)
    general = torch.stack([-domain[0] + 0.1, domain[1] + 0.1, torch.zeros(2, 4)])
    start = torch.zeros(3, 2, 4)
    both = {"context": start, "general": start}
    optimiser = AlignedSGD(momentum=0.0)
    found, state = optimiser.direction(
        both, {"context": domain, "general": general}, optimiser.init(both)
    )
    assert set(state) == {"context"}
    assert torch.equal(found["context"], found["general"])  # the copies stay equal
    assert abs(float((found["context"][0] * general[0]).sum())) < 1e-5
    assert torch.equal(found["context"][1:], domain[1:])


@pytest.mark.parametrize("options", [{"share": -0.1}, {"share": 1.1}, {"template": "a photo"}])
def test_nonsense_options_are_refused(setting, options):
    with pytest.raises(ConfigError):
        FedProGrad(setting, **options)
