"""Heads answer as the methods that they are folded from, and refuse what does not fit."""

from dataclasses import replace

import pytest
import torch

from pfedmoap.contract.folding import Folded, fold
from pfedmoap.errors import MethodError, RunError
from pfedmoap.exported.heads import HEADS
from pfedmoap.exported.model import ExportedModel
from pfedmoap.methods.pfedprompt import PFedPrompt
from pfedmoap.methods.promptfl import PromptFL
from pfedmoap.methods.registry import method_class
from pfedmoap.wire.messages import ClientId
from tests.helpers.exported import KINDS, trained


def exported_model(folded: Folded, backbone, classes=("a", "b", "c")) -> ExportedModel:
    return ExportedModel(backbone.model.visual, backbone.preprocessing, folded, classes, "tiny")


@pytest.mark.parametrize("name", KINDS)
def test_a_head_answers_as_its_method(name):
    world, download, local = trained(name)
    backbone = world.method.setting.backbone
    pixels = torch.randn(5, 3, 32, 32)
    folded = fold(world.method, download, local)
    found = exported_model(folded, backbone).predict(pixels)
    expected = world.method.predict(
        download, local, backbone.features(pixels, world.method.features)
    )
    assert torch.allclose(found.logits, expected.logits, atol=1e-4)
    assert found.experts == expected.experts
    assert (found.attention is None) == (expected.attention is None)
    if found.attention is not None and expected.attention is not None:
        assert torch.allclose(found.attention, expected.attention, atol=1e-6)


def test_every_kind_of_head_is_tried():
    found = set()
    for name in KINDS:
        world, download, local = trained(name)
        found.add(fold(world.method, download, local).kind)
    assert found == set(HEADS)


def test_a_newcomer_has_the_vote_of_what_it_is_sent(setting, small):
    world = small(method_class("pfedmoap")(setting, newcomers="experts", experts=2))
    state, _, _ = world.rounds(1)
    (download,) = world.method.plan(state, [ClientId(50)], 2)
    assert "guest_experts" in download.arrays
    features = setting.backbone.features(pixels := torch.randn(4, 3, 32, 32))
    found = exported_model(fold(world.method, download, None), setting.backbone).predict(pixels)
    expected = world.method.predict(download, None, features)
    assert torch.allclose(found.logits, expected.logits, atol=1e-4)


@pytest.mark.parametrize("name", ["fed_bbpt", "fedsp"])
def test_who_has_no_tower_at_home_says_so(name, setting, small, quick):
    world = small(method_class(name)(setting, **quick.get(name, {})))
    (download,) = world.method.plan(world.method.init(), [ClientId(0)], 1)
    with pytest.raises(MethodError, match=r"cannot be exported: clients of .*serve the run itself"):
        fold(world.method, download, None)


def test_a_memory_of_training_images_is_not_given_away(setting, small):
    world = small(PFedPrompt(setting))
    (download,) = world.method.plan(world.method.init(), [ClientId(0)], 1)
    assert fold(world.method, download, None).kind == "cosine"
    with pytest.raises(MethodError, match="features of its own training images"):
        fold(world.method, download, {"keys": torch.zeros(1, 128), "labels": torch.zeros(1)})


class PredictsAnew(PromptFL):
    """A method whose predict was replaced and whose fold was not."""

    def predict(self, download, local, features):
        return super().predict(download, local, features)


def test_a_replaced_predict_needs_a_fold_of_its_own(setting):
    method = PredictsAnew(setting)
    (download,) = method.plan(method.init(), [ClientId(0)], 1)
    with pytest.raises(MethodError, match="give it a function `fold`"):
        fold(method, download, None)


def wrong(folded: Folded) -> dict[str, Folded]:
    """What no head takes, by a part of what is said."""
    text = folded.arrays["text"]
    nan = torch.full_like(text, float("nan"))
    return {
        "of kind 'none'": replace(folded, kind="none"),
        "options are": replace(folded, options={}),
        "scale must be a number": replace(folded, options={**folded.options, "scale": "40"}),
        "no gate 'other'": replace(folded, options={**folded.options, "gate": "other"}),
        "heads must be a whole number": replace(folded, options={**folded.options, "heads": 10**9}),
        "not finite": replace(folded, arrays={**folded.arrays, "text": nan}),
        "arrays are": replace(folded, arrays={**folded.arrays, "more": text}),
        "text is torch": replace(folded, arrays={**folded.arrays, "text": text[:, :2]}),
        "answers about other classes or experts": replace(folded, experts=()),
        "weights do not fit": replace(
            folded, arrays={k: v for k, v in folded.arrays.items() if k != "gate.key.bias"}
        ),
    }


def test_a_damaged_head_is_refused():
    world, download, local = trained("attention gate")
    folded = fold(world.method, download, local)
    for said, damaged in wrong(folded).items():
        with pytest.raises(RunError, match=said):
            exported_model(damaged, world.method.setting.backbone)
    narrow = {"text": torch.randn(3, 64)}
    with pytest.raises(RunError, match="does not fit its image tower"):
        exported_model(Folded("cosine", {"scale": 1.0}, narrow), world.method.setting.backbone)
