"""A protected CLIP and its auxiliary: targets, forms without weights, and distillation."""

from dataclasses import fields, is_dataclass, replace

import pytest
import torch
from torch import nn

from pfedmoap.errors import BackboneError, ConfigError
from pfedmoap.method import ClientData
from pfedmoap.protected.distillation import Distillation, distil, resemblance
from pfedmoap.protected.dual_encoder import AuxiliaryCLIP, ProtectedCLIP
from tests.conftest import tiny_clip

NAMES = ("cat", "a small dog", "boat")


def protected(clip, **options) -> ProtectedCLIP:
    usual = {
        "backbone": clip,
        "class_names": NAMES,
        "templates": ("a photo of a {}.", "many {}"),
        "protects": "both",
        "prefixed": "text",
        "prefix_length": 3,
        "prefix_std": 0.5,
        "shape": "looped",
        "blocks": 1,
        "sentences": 4,
        "seed": 0,
    }
    return ProtectedCLIP(**usual | options)


def server_data(clip, size: int = 8) -> ClientData:
    pixels = torch.randn(size, 3, 32, 32)
    found = clip.features(pixels, ("image", "tokens", "pixels"))
    return ClientData({k: v[:, None] for k, v in found.items()}, torch.arange(size) % 3)


def test_full_model_without_a_say_of_the_prefix_is_zero_shot(clip):
    model = protected(clip, prefix_length=1)
    data = server_data(clip)
    nothing = {"text": torch.zeros(1, 3, 2, 0, clip.text_width)}
    seen = {kind: v[None] for kind, v in data.view().items()}
    logits = model.logits(nothing, model.represent(nothing), seen)[0]
    text = clip.text_features([f"a photo of a {name}." for name in NAMES])
    expected = clip.logit_scale * data.view()["image"] @ text.mT
    assert torch.allclose(logits, expected, atol=1e-4)


@pytest.mark.parametrize("prefixed", ["text", "both"])
def test_an_auxiliary_that_leaves_nothing_out_is_the_model_itself(prefixed):
    """The same prefix must then do the same on both sides."""
    clip = clip_of_two_blocks()
    model = protected(clip, shape="dropped", blocks=2, prefixed=prefixed)
    weights = {name: v[None] for name, v in model.first_weights().items()}
    prefix = {name: v[None] for name, v in model.initial_prefix(3).items()}
    assert {name: tuple(v.shape[1:]) for name, v in prefix.items()} == model.prefix_shapes
    seen = {kind: v[None] for kind, v in server_data(clip).view().items()}
    own = model.auxiliary
    pixels = {"pixels": seen["pixels"]}
    here = own.logits(weights, prefix, own.represent(weights, prefix), pixels)
    there = model.logits(prefix, model.represent(prefix), seen)
    assert torch.allclose(here, there, atol=1e-4)


def clip_of_two_blocks():
    """A CLIP with two blocks in each tower."""
    clip = tiny_clip()
    text = clip._model.transformer
    text.resblocks = nn.ModuleList(list(text.resblocks)[:2])
    return type(clip)(clip._model, clip._tokenizer, clip.preprocessing, "two and two")


def test_clients_form_holds_no_weight_of_the_model(clip):
    """Everything in the form is a number, a token id or a module without parameters."""

    def walk(value):
        if is_dataclass(value):
            for field in fields(value):
                yield from walk(getattr(value, field.name))
        else:
            yield value

    form = protected(clip).auxiliary
    assert isinstance(form, AuxiliaryCLIP)
    for leaf in walk(form):
        if isinstance(leaf, torch.Tensor):
            assert leaf.dtype == torch.int64
        elif isinstance(leaf, nn.Module):
            assert not list(leaf.parameters())
            assert not list(leaf.buffers())
        else:
            assert isinstance(leaf, int | float | bool | tuple)


def test_precomputed_images_give_the_same_losses(clip):
    model = protected(clip)
    weights = {
        name: torch.stack([v, v + 0.05 * torch.randn(v.shape)])
        for name, v in model.first_weights().items()
    }
    prefix = {name: torch.randn(2, *shape) for name, shape in model.prefix_shapes.items()}
    form, pixels = model.auxiliary, torch.randn(2, 5, 1, 3, 32, 32)
    labels = torch.tensor([[0, 1, 2, 0, 1]] * 2)
    shared = form.represent(weights, prefix)
    slow = form.losses(weights, prefix, shared, {"pixels": pixels[:, :, 0]}, labels)
    seen = form.precompute(weights, {"pixels": pixels})
    fast = form.losses(weights, prefix, shared, {"image": seen["image"][:, :, 0]}, labels)
    assert torch.allclose(slow, fast, atol=1e-4)


@pytest.mark.parametrize("start", ["cut", "random"])
def test_distillation_loss_falls(clip, start):
    model = protected(clip)
    options = Distillation(60, learning_rate=2e-3, start=start)
    weights, losses = distil(model, server_data(clip, 16), options)
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])
    first = model.first_weights()
    assert all(weights[name].shape == first[name].shape for name in first)
    again, _ = distil(model, server_data(clip, 16), replace(options, steps=0))
    assert all(torch.equal(again[name], first[name]) for name in first) == (start == "cut")
    alike = resemblance(weights, first)["text.block0.mlp.c_fc.weight"]
    assert alike > 0.9 if start == "cut" else alike < 0.9


def test_handing_out_the_models_own_blocks_is_said_aloud(clip, caplog):
    distil(protected(clip), server_data(clip), Distillation(0, start="random"))
    assert not caplog.records
    distil(protected(clip), server_data(clip), Distillation(0))
    assert "blocks of the protected model itself" in caplog.text


def test_model_that_cannot_be_taken_apart_is_refused_with_a_way_out():
    clip = tiny_clip("resnet")
    with pytest.raises(ConfigError, match="protects text"):
        _ = protected(clip).auxiliary
    assert protected(clip, protects="text").auxiliary.features == ("image",)
    broken = tiny_clip()
    broken._shareable = "its attention is odd"
    with pytest.raises(BackboneError, match="its attention is odd"):
        _ = protected(broken).auxiliary
