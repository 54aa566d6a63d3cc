"""DP-FPL: the split of the own prompt, a step by hand, and what travels."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from pfedmoap.errors import ConfigError
from pfedmoap.methods.dpfpl import DPFPL, factored, split
from pfedmoap.wire.messages import ClientId

ME = ClientId(4)


def test_the_split_is_the_best_of_its_rank_and_loses_nothing():
    own = torch.randn(3, 6, 8, generator=torch.Generator().manual_seed(1))
    parts = split(own, 2)
    low = parts["u"] @ parts["v"]
    assert torch.allclose(low + parts["rest"], own, atol=1e-5)
    for one, rest, whole in zip(low, parts["rest"], own, strict=True):
        assert int(torch.linalg.matrix_rank(one, atol=1e-4)) == 2
        left = torch.linalg.svdvals(whole)[2:].square().sum()  # Eckart and Young
        assert torch.allclose(rest.square().sum(), left, atol=1e-4)


def test_one_client_equals_training_the_four_parts_by_hand(small, setting, data):
    """Full batches of one view, so that the order of examples cannot matter."""
    training = replace(setting.training, epochs=2, batch_size=8)
    setting = replace(setting, training=training)
    method = DPFPL(setting, rank=2)
    own_data = replace(data[ME], features={"image": data[ME].features["image"][:, :1]})
    world = replace(small(method), data={ME: own_data})
    state, local_states, results = world.rounds(2, [ME])
    context, own = method.init()["context"], method.own["own"]
    image, labels = own_data.features["image"][:, 0], own_data.labels
    for _ in range(2):
        parts = {"context": context[None], **split(own[None], 2)}
        leaves = {name: value.clone().requires_grad_() for name, value in parts.items()}
        sgd = torch.optim.SGD(
            leaves.values(),
            lr=training.learning_rate,
            momentum=training.momentum,
            weight_decay=training.weight_decay,
        )
        for _ in range(2):
            text = method.encoder(factored(leaves))[0]
            sgd.zero_grad()
            F.cross_entropy(setting.backbone.logit_scale * image @ text.T, labels).backward()
            sgd.step()
        found = {name: value.detach()[0] for name, value in leaves.items()}
        context, own = found["context"], found["u"] @ found["v"] + found["rest"]
    assert torch.allclose(state["context"], context, atol=1e-4)
    assert torch.allclose(local_states[ME]["own"], own, atol=1e-4)
    assert float((own - method.own["own"]).norm()) > 1e-3
    assert all(set(result.update.arrays) == {"context"} for result in results)


def test_a_client_classifies_with_the_sum(setting, data):
    method = DPFPL(setting)
    state = method.init()
    (download,) = method.plan(state, [ME], 1)
    image = data[ME].view()
    own = {"own": torch.randn(16, 32, generator=torch.Generator().manual_seed(2))}
    text = method.encoder((state["context"] + own["own"])[None])[0]
    truth = setting.backbone.logit_scale * image["image"] @ text.T
    assert torch.allclose(method.predict(download, own, image).logits, truth, atol=1e-4)
    alone = method.encoder(state["context"][None])[0]
    truth = setting.backbone.logit_scale * image["image"] @ alone.T
    assert torch.allclose(method.predict_global(state, image).logits, truth, atol=1e-4)


@pytest.mark.parametrize("rank", [0, 17])
def test_nonsense_options_are_refused(setting, rank):
    with pytest.raises(ConfigError, match="rank"):
        DPFPL(setting, rank=rank)
