"""The towers as functions of weights equal open_clip's own, and a prefix is what it says it is."""

from dataclasses import replace

import pytest
import torch

from pfedmoap.errors import ConfigError
from pfedmoap.models.clip.blocks import split_heads
from pfedmoap.models.clip.clip import FrozenCLIP
from pfedmoap.models.protected.blocks import (
    block_form,
    block_weights,
    normalise,
    project,
    run_blocks,
)
from pfedmoap.models.protected.towers import (
    image_form,
    image_weights,
    reduction,
    text_form,
    text_weights,
    whole,
)

TEXTS = ("a photo of a cat.", "a photo of a very long class name.", "boat")


def whole_text(clip: FrozenCLIP, texts=TEXTS):
    tower = clip.text_tower
    ids, ends = clip.tokenise(texts), clip.text_ends(texts)
    ids = ids[:, : int(ends.max()) + 1]
    depth = len(tower.blocks)
    form = text_form(tower, whole(depth), ids, ends, range(depth))
    return form, text_weights(tower, range(depth), None, ids.shape[1])


def whole_image(clip: FrozenCLIP):
    tower = clip.token_tower
    depth = len(tower.blocks)
    form = image_form(tower, whole(depth), range(depth))
    return form, image_weights(tower, range(depth))


@pytest.mark.parametrize("which", ["tiny", "embedded"])
def test_whole_text_tower_equals_open_clip(clip, which):
    model = clip if which == "tiny" else FrozenCLIP.embedded()
    form, weights = whole_text(model)
    assert torch.allclose(form.encode(weights)[0], model.text_features(TEXTS), atol=1e-5)


@pytest.mark.parametrize("texts", [TEXTS, TEXTS[:2], ("boat", "boats")])
def test_words_that_texts_begin_with_are_run_once_and_change_nothing(clip, texts):
    """Against each text alone, which shares nothing; in values and in the prefix's gradient."""
    form, weights = whole_text(clip, texts)
    prefix = torch.randn(2, len(clip.text_tower.blocks), 2, 3, clip.text_width, requires_grad=True)
    together = form.encode(weights, prefix)
    ids, ends = clip.tokenise(texts), clip.text_ends(texts)
    alone = []
    for row in range(len(texts)):
        own = replace(form, ids=ids[row : row + 1, : form.ids.shape[1]], ends=ends[row : row + 1])
        alone.append(own.encode(weights, prefix))
    apart = torch.cat(alone, dim=1)
    assert torch.allclose(together, apart, atol=1e-5)
    aim = torch.randn(together.shape)
    (one,) = torch.autograd.grad((together * aim).sum(), prefix)
    (other,) = torch.autograd.grad((apart * aim).sum(), prefix)
    assert torch.allclose(one, other, atol=1e-5 * float(other.norm()))


def test_whole_image_tower_equals_open_clip(clip):
    form, weights = whole_image(clip)
    pixels = torch.randn(4, 3, 32, 32)
    expected = clip.features(pixels, ("image", "tokens"))
    tokens = form.embed(weights, pixels[None])
    assert torch.allclose(tokens[0], expected["tokens"], atol=1e-5)
    assert torch.allclose(form.encode(weights, tokens)[0], expected["image"], atol=1e-5)


def test_each_clients_own_weights_give_what_it_would_get_alone(clip):
    form, weights = whole_text(clip)
    clients = [{n: v + 0.05 * torch.randn(v.shape) for n, v in weights.items()} for _ in range(3)]
    together = form.encode({n: torch.stack([c[n] for c in clients]) for n in weights})
    for row, own in enumerate(clients):
        assert torch.allclose(together[row], form.encode(own)[0], atol=1e-5)
    form, weights = whole_image(clip)
    pixels = torch.randn(3, 2, 3, 32, 32)
    clients = [{n: v + 0.05 * torch.randn(v.shape) for n, v in weights.items()} for _ in range(3)]
    stacked = {n: torch.stack([c[n] for c in clients]) for n in weights}
    together = form.encode(stacked, form.embed(stacked, pixels))
    for row, own in enumerate(clients):
        alone = form.encode(own, form.embed(own, pixels[row : row + 1]))[0]
        assert torch.allclose(together[row], alone, atol=1e-5)


@torch.no_grad()
def test_prefix_extends_the_mask_and_is_seen_by_every_token(clip):
    """Keys and values of real tokens, as a prefix, equal those tokens standing there.

    A mask that was not extended would hide the prefix from the first tokens.
    """
    blocks = clip.text_tower.blocks
    form = block_form(blocks[0], causal=True)
    weights = [block_weights(block) for block in blocks]
    x = torch.randn(1, 2, 7, clip.text_width)
    x[:, 1, :3] = x[:, 0, :3]  # both sequences begin in the same way
    prefixes, state = [], x
    for block, own in zip(blocks, weights, strict=True):
        _, key, value = (part[:1, :, :3] for part in split_heads(block, state[0]))
        pair = torch.stack([part.transpose(1, 2).flatten(2) for part in (key, value)], dim=1)
        prefixes.append(pair)  # (1, 2, 3, W)
        state = run_blocks(state, [own], form)
    behind = run_blocks(x[:, :, 3:], weights, form, prefixes)
    assert torch.allclose(behind, state[:, :, 3:], atol=1e-5)


def test_positions_restart_behind_the_prefix(clip):
    """A prefix that no query looks at changes nothing: tokens stand where they would without it."""
    form, weights = whole_text(clip)
    width, depth = clip.text_width, len(clip.text_tower.blocks)
    weights = {name: value.clone() for name, value in weights.items()}
    away = torch.full((width,), 30.0)
    for layer in range(depth):
        weights[f"block{layer}.attn.in_proj_bias"][:width] += away  # all queries point there ...
    prefix = torch.randn(1, depth, 2, 5, width)
    prefix[:, :, 0] = -away  # ... and the prefix's keys the other way
    unseen = form.encode(weights, prefix)
    assert torch.allclose(unseen, form.encode(weights), atol=1e-6)
    prefix[:, :, 0] = away
    assert not torch.allclose(form.encode(weights, prefix), unseen, atol=1e-2)


def test_no_prefix_for_another_number_of_layers_is_averaged_or_repeated():
    """A dropped tower has a prefix at its own layers, and each stands at the same layer above."""
    assert reduction(12, "looped", 1).layers == (0,) * 12
    assert reduction(12, "looped", 1).prefixed == tuple(range(12))
    assert reduction(4, "looped", 2).layers == (0, 1, 0, 1)
    cut = reduction(12, "dropped", 3)
    assert cut.kept == cut.prefixed == (0, 6, 11)
    assert cut.layers == (0, 1, 2)
    for blocks in (0, 13):
        with pytest.raises(ConfigError, match="auxiliary_blocks"):
            reduction(12, "looped", blocks)


def test_layer_norm_and_projection_take_shared_and_own_weights():
    x = torch.randn(2, 3, 4, 5)
    gain, bias, weight = torch.randn(2, 5), torch.randn(2, 5), torch.randn(2, 6, 5)
    for row in range(2):
        one = x[row : row + 1]
        assert torch.allclose(
            normalise(x, gain, bias, 1e-5)[row], normalise(one, gain[row], bias[row], 1e-5)[0]
        )
        assert torch.allclose(project(x, weight)[row], project(one, weight[row])[0], atol=1e-5)
