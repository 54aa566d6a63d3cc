"""Local features against the towers' own outputs."""

import open_clip
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pfedmoap.errors import BackboneError
from pfedmoap.models.clip.clip import FrozenCLIP
from pfedmoap.models.clip.patches import find_patches
from pfedmoap.models.clip.preprocessing import Preprocessing

TEXT = {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
VIT = {"image_size": 32, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16}
RESNET = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8}


def make(vision: dict) -> FrozenCLIP:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = open_clip.CLIP(24, vision, TEXT)
    size = vision["image_size"]
    preprocessing = Preprocessing(size, (0.5,) * 3, (0.5,) * 3)
    return FrozenCLIP(model, open_clip.SimpleTokenizer(context_length=16), preprocessing)


def images(size: int) -> torch.Tensor:
    return torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("vision", "count"), [(VIT, 16), (RESNET, 4)], ids=["vit", "resnet"])
def test_patches_are_unit_norm_and_in_the_joint_space(vision, count):
    clip = make(vision)
    found = clip.features(images(vision["image_size"]), ("patches", "image"))
    assert found["patches"].shape == (3, count, 24)
    assert torch.allclose(found["patches"].norm(dim=-1), torch.ones(3, count), atol=1e-5)
    assert torch.equal(found["image"], clip.image_features(images(vision["image_size"])))


def test_only_what_was_asked_for_comes_back():
    clip = make(VIT)
    assert set(clip.features(images(32), ("patches",))) == {"patches"}
    assert {"image", "patches", "pixels"} <= set(clip.feature_kinds)


def test_average_pooled_vit_is_the_mean_of_its_patches():
    """With pool_type avg, the global feature is by definition the mean of projected patches."""
    clip = make(VIT | {"pool_type": "avg"})
    tower = clip.model.visual
    patches = find_patches(tower)
    with torch.no_grad(), patches.recording() as maps:
        pooled = tower(images(32))
    assert torch.allclose(patches.project(maps[0]).mean(1), pooled, atol=1e-5)


def test_vit_patches_are_the_towers_own_tokens():
    clip = make(VIT)
    tower = clip.model.visual
    tower.output_tokens = True
    with torch.no_grad():
        _, tokens = tower(images(32))  # normalised, not projected
    tower.output_tokens = False
    truth = F.normalize(tokens @ tower.proj, dim=-1)
    assert torch.allclose(clip.features(images(32), ("patches",))["patches"], truth, atol=1e-5)


def test_resnet_location_attends_as_the_pool_does():
    """A location's feature is the pool's output with that location in the place of the query."""
    clip = make(RESNET)
    pool = clip.model.visual.attnpool
    features = torch.randn(2, 256, 2, 2, generator=torch.Generator().manual_seed(3))
    found = find_patches(clip.model.visual).project(features)
    tokens = features.flatten(2).permute(0, 2, 1)
    tokens = torch.cat([tokens.mean(1, keepdim=True), tokens], 1) + pool.positional_embedding
    heads = pool.num_heads
    q, k, v = (
        layer(tokens).unflatten(-1, (heads, -1))
        for layer in (pool.q_proj, pool.k_proj, pool.v_proj)
    )
    weights = (torch.einsum("bmhd,bnhd->bhmn", q, k) * q.shape[-1] ** -0.5).softmax(-1)
    mixed = torch.einsum("bhmn,bnhd->bmhd", weights, v).flatten(2)
    truth = pool.c_proj(mixed)
    assert torch.allclose(found, truth[:, 1:], atol=1e-5)
    assert torch.allclose(pool(features), truth[:, 0], atol=1e-5)


def test_recording_leaves_no_hook_behind():
    clip = make(VIT)
    with find_patches(clip.model.visual).recording() as maps:
        clip.image_features(images(32))
    assert len(maps) == 1
    clip.image_features(images(32))
    assert len(maps) == 1


def test_foreign_tower_is_refused_with_the_remedy():
    known = make(VIT)
    known.model.visual = nn.Sequential(known.model.visual)
    clip = FrozenCLIP(known.model, known.tokenizer, known.preprocessing)
    assert "patches" not in clip.feature_kinds
    with pytest.raises(BackboneError, match=r"Sequential.*such as the embedded one"):
        clip.features(images(32), ("patches",))


def test_attentional_pooler_has_no_patches():
    reason = find_patches(make(VIT | {"attentional_pool": True}).model.visual)
    assert isinstance(reason, str)
    assert "learned queries" in reason


def test_unknown_kind_is_refused():
    with pytest.raises(BackboneError, match="kinds: image, patches"):
        make(VIT).features(images(32), ("depth",))
