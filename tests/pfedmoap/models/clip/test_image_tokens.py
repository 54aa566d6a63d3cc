"""Cached tokens with prompts behind them give what the whole tower gives."""

import open_clip
import pytest
import torch
from torch.nn import functional as F

from pfedmoap.errors import BackboneError, ShapeError
from pfedmoap.models.clip.clip import FrozenCLIP
from pfedmoap.models.clip.preprocessing import Preprocessing


@pytest.fixture(scope="module")
def resnet() -> FrozenCLIP:
    vision = {"image_size": 32, "patch_size": None, "width": 8, "layers": [1, 1, 1, 1]}
    text = {"context_length": 40, "vocab_size": 49408, "width": 32, "heads": 4, "layers": 1}
    with torch.random.fork_rng():
        model = open_clip.CLIP(128, vision, text)
    preprocessing = Preprocessing(32, (0.5, 0.5, 0.5), (0.3, 0.3, 0.3))
    return FrozenCLIP(model, open_clip.SimpleTokenizer(context_length=40), preprocessing, "tiny")


@pytest.fixture(scope="module")
def found(clip) -> dict[str, torch.Tensor]:
    images = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    return clip.features(images, ("image", "patches", "tokens", "class_token"))


def whole_tower(clip: FrozenCLIP, tokens: torch.Tensor, prompts: torch.Tensor) -> torch.Tensor:
    """The slow truth: open_clip's own blocks and pooling, one image after another."""
    visual = clip.model.visual
    rows = []
    for one, own in zip(tokens, prompts, strict=True):
        x = visual.transformer(torch.cat([one[:1], own, one[1:]])[None])
        rows.append(visual.ln_post(x)[:, 0] @ visual.proj)
    return F.normalize(torch.cat(rows), dim=-1)


def test_without_prompts_the_partial_forward_is_the_whole_one(clip, found):
    see = clip.prompted_vision()
    features = see(found["tokens"], torch.zeros(5, 0, see.width))
    assert torch.allclose(features, found["image"], atol=1e-6)


def test_with_prompts_it_equals_the_tower_run_image_by_image(clip, found):
    see = clip.prompted_vision()
    prompts = torch.randn(5, 3, see.width)
    assert torch.allclose(
        see(found["tokens"], prompts), whole_tower(clip, found["tokens"], prompts), atol=1e-5
    )


def test_a_leading_client_axis_changes_nothing(clip, found):
    see = clip.prompted_vision()
    tokens, prompts = found["tokens"][None].expand(2, -1, -1, -1), torch.randn(2, 5, 3, see.width)
    together = see(tokens, prompts)
    for client in range(2):
        assert torch.allclose(together[client], see(tokens[client], prompts[client]), atol=1e-6)


def test_prompts_carry_no_position(clip, found):
    """Pitfall of PFPT: a set has no order, so its prompts must not know their place."""
    see = clip.prompted_vision()
    prompts = torch.randn(5, 4, see.width)
    shuffled = prompts[:, [2, 0, 3, 1]]
    assert torch.allclose(see(found["tokens"], prompts), see(found["tokens"], shuffled), atol=1e-6)


def test_gradients_reach_the_prompts(clip, found):
    see = clip.prompted_vision()
    prompts = torch.randn(5, 2, see.width, requires_grad=True)
    see(found["tokens"], prompts)[:, 0].sum().backward()
    assert prompts.grad.abs().sum() > 0


def test_the_class_token_is_the_image_feature_before_its_projection(clip, found):
    projected = F.normalize(found["class_token"] @ clip.model.visual.proj, dim=-1)
    assert torch.allclose(projected, found["image"], atol=1e-5)


def test_prompts_of_another_width_are_refused(clip, found):
    see = clip.prompted_vision()
    with pytest.raises(ShapeError, match=r"expected \(5, k, 32\)"):
        see(found["tokens"], torch.zeros(5, 2, see.width + 1))
    with pytest.raises(ShapeError):
        see(found["tokens"], torch.zeros(4, 2, see.width))


def test_a_resnet_has_no_place_for_tokens_and_says_so(resnet):
    assert "tokens" not in resnet.feature_kinds
    with pytest.raises(BackboneError, match=r"ModifiedResNet.*modality text"):
        resnet.prompted_vision()


def test_a_tower_that_averages_its_tokens_is_refused():
    vision = {"image_size": 32, "patch_size": 8, "width": 32, "layers": 1, "head_width": 16}
    text = {"context_length": 40, "vocab_size": 49408, "width": 32, "heads": 4, "layers": 1}
    with torch.random.fork_rng():
        model = open_clip.CLIP(128, {**vision, "pool_type": "avg"}, text)
    preprocessing = Preprocessing(32, (0.5, 0.5, 0.5), (0.3, 0.3, 0.3))
    clip = FrozenCLIP(model, open_clip.SimpleTokenizer(context_length=40), preprocessing, "tiny")
    with pytest.raises(BackboneError, match="prompts included"):
        clip.require_features(["tokens"])
