"""A protected CLIP and its auxiliary: targets, forms without weights, and distillation."""

from dataclasses import dataclass, fields, is_dataclass, replace

import pytest
import torch
from torch import nn

from pfedmoap.contract.tasks import ClientData
from pfedmoap.errors import BackboneError, ConfigError
from pfedmoap.methods.fedsp.distillation import Distillation, distil, draw_batch, resemblance
from pfedmoap.models.clip.clip import FrozenCLIP
from pfedmoap.models.protected import clip as dual_encoder
from pfedmoap.models.protected import towers
from pfedmoap.models.protected.blocks import block_form, block_weights, run_blocks
from pfedmoap.models.protected.clip import AuxiliaryCLIP, ProtectedCLIP
from pfedmoap.models.protected.interface import Protection, draw_prefix
from pfedmoap.seeding import generator
from pfedmoap.wire.messages import Arrays
from tests.helpers.models import tiny_clip

NAMES = ("cat", "a small dog", "boat")


def protected(clip, **options) -> ProtectedCLIP:
    usual = Protection("both", "text", prefix_length=3, shape="looped", blocks=1, batch_size=4)
    return ProtectedCLIP(
        clip, NAMES, ("a photo of a {}.", "many {}"), replace(usual, **options), seed=0
    )


def first_prefix(model: ProtectedCLIP, seed: int) -> Arrays:
    return draw_prefix(model.prefix_shapes, 0.5, seed)


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
    prefix = {name: v[None] for name, v in first_prefix(model, 3).items()}
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
    text = clip.model.transformer
    text.resblocks = nn.ModuleList(list(text.resblocks)[:2])
    return type(clip)(clip.model, clip.tokenizer, clip.preprocessing, "two and two")


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
    alike = resemblance(weights, first)["text.block0.mlp.c_fc.weight"].median()
    assert alike > 0.9 if start == "cut" else alike < 0.5


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
    broken.model.attn_mask.zero_()
    broken = FrozenCLIP(broken.model, broken.tokenizer, broken.preprocessing)
    with pytest.raises(BackboneError, match="the attention mask is not the plain causal one"):
        _ = protected(broken).auxiliary


@torch.no_grad()
def test_prefix_of_a_dropped_tower_stands_at_the_same_layers_of_the_full_model(clip):
    """Layers 0 and 2 of three: against the blocks run one by one."""
    model = protected(clip, shape="dropped", blocks=2, prefix_length=3)
    prefix = first_prefix(model, 0)["text"][None]
    tower = clip.text_tower
    texts = [f"a photo of a {name}." for name in NAMES]
    ids, ends = clip.tokenise(texts), clip.text_ends(texts)
    x = (tower.embedding(ids) + tower.positions)[None]
    form = block_form(tower.blocks[0], causal=True)
    for block, before in zip(tower.blocks, (prefix[:, 0], None, prefix[:, 1]), strict=True):
        x = run_blocks(x, [block_weights(block)], form, [before])
    read = tower.final_norm(x[0, torch.arange(len(texts)), ends]) @ tower.projection
    expected = torch.nn.functional.normalize(read, dim=-1)
    assert torch.allclose(model.represent({"text": prefix})["text"][0], expected, atol=1e-5)


def test_distillation_reads_every_template(clip):
    model = protected(clip, protects="text", batch_size=6)
    weights = {name: v[None] for name, v in model.first_weights().items()}
    texts = [each.format(name) for each in model.templates for name in NAMES]
    rows = replace(model.auxiliary.text, ids=model.rows.flatten(0, 1), ends=model.ends.flatten())
    found = rows.encode({name[5:]: v for name, v in weights.items()})[0]
    expected = (found - clip.text_features(texts)).pow(2).sum(-1).mean()
    assert torch.allclose(model.distillation_loss(weights, {}, 0), expected, atol=1e-6)


@dataclass(frozen=True)
class Slope:
    """Stands in for a model whose loss is a straight line, so that AdamW's steps are known."""

    steepness: float

    def first_weights(self):
        return {"w": torch.ones(2)}

    def is_hidden(self, name):
        return True

    def distillation_loss(self, weights, features, step):
        return self.steepness * weights["w"].sum()


def test_distillation_warms_up_and_decays_its_weights():
    """Under a constant slope each step of Adam is its step size, here 0.01 to 0.1 and then 0.1."""
    options = Distillation(20, learning_rate=0.1, weight_decay=0.0, warm_up=0.5)
    weights, _ = distil(Slope(10.0), None, options)
    assert torch.allclose(weights["w"], torch.full((2,), 1 - 0.55 - 1.0), atol=1e-3)
    options = replace(options, weight_decay=0.5, warm_up=0.05)
    weights, _ = distil(Slope(0.0), None, options)
    assert torch.allclose(weights["w"], torch.full((2,), 0.95**20), atol=1e-5)
    small_slope, _ = distil(Slope(1e-4), None, Distillation(1, learning_rate=0.1, weight_decay=0.0))
    assert torch.allclose(small_slope["w"], torch.full((2,), 1 - 0.05), atol=1e-4)  # epsilon 1e-4


def test_examples_go_to_where_the_weights_are():
    data = ClientData({"pixels": torch.zeros(4, 1, 2)}, torch.zeros(4, dtype=torch.int64))
    batch = draw_batch(data, Distillation(1, batch_size=3), generator(0), torch.device("meta"))
    assert batch["pixels"].device.type == "meta"
    assert batch["pixels"].shape == (3, 2)


@pytest.mark.parametrize("prefixed", ["text", "both"])
def test_images_are_encoded_a_few_at_a_time_where_no_gradients_are_kept(
    clip, monkeypatch, prefixed
):
    """A test set of a real CLIP would not fit into memory at once."""
    model = protected(clip, prefixed=prefixed)
    weights = {name: torch.stack([v, 1.5 * v]) for name, v in model.first_weights().items()}
    prefix = {name: torch.stack([v, -v]) for name, v in first_prefix(model, 3).items()}
    seen = {kind: v[None].expand(2, *v.shape) for kind, v in server_data(clip, 7).view().items()}
    client, shared = model.auxiliary, model.auxiliary.represent(weights, prefix)
    model_shared = model.represent(prefix)

    def answers() -> list[torch.Tensor]:
        pixels = {"pixels": seen["pixels"]}
        own = client.logits(weights, prefix, shared, pixels)
        return [own, model.logits(prefix, model_shared, seen)]

    once = answers()  # with gradients, in one pass
    sizes: list[int] = []
    run = towers.run_blocks

    def watched(x: torch.Tensor, *args: object, **options: object) -> torch.Tensor:
        sizes.append(x.shape[0] * x.shape[1])
        return run(x, *args, **options)

    monkeypatch.setattr(dual_encoder, "IMAGES_AT_ONCE", 4)
    monkeypatch.setattr(towers, "run_blocks", watched)
    with torch.no_grad():
        parts = answers()
    assert max(sizes) <= 4
    for one, other in zip(once, parts, strict=True):
        assert torch.allclose(one, other, atol=1e-4)
