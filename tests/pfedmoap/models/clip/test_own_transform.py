"""Preprocessing is the backbone's own, for every way of resizing that open_clip has."""

import json
from dataclasses import asdict
from itertools import product

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from pfedmoap.models.clip.clip import FrozenCLIP
from pfedmoap.models.clip.preprocessing import Preprocessing
from pfedmoap.models.loading import BackboneOptions, preprocessing_of

SIZES = ((224, 224), (500, 375), (333, 500), (641, 97), (90, 301), (225, 224), (31, 33), (1, 7))


def photograph(width: int, height: int) -> Image.Image:
    """Smooth light, an edge, a fine grating and grain: what resizing has to do with."""
    rng = np.random.default_rng(width * 1000 + height)
    y, x = np.mgrid[0:height, 0:width] / max(width, height)
    light = 120 + 90 * np.sin(3 * x + 2 * y)[..., None] * np.array([1.0, 0.6, -0.8])
    light[(x - 0.4) ** 2 + (y - 0.3) ** 2 < 0.04] += 70
    light += 25 * np.sign(np.sin(140 * x * (1 + y)))[..., None]
    light += rng.normal(0, 12, light.shape)
    return Image.fromarray(np.rint(light.clip(0, 255)).astype(np.uint8))


@pytest.mark.parametrize(
    ("resize", "interpolation", "fill"),
    [
        *product(("shortest", "squash"), ("bicubic", "bilinear"), (0,)),
        *product(("longest",), ("bicubic", "bilinear"), (0, 127)),
    ],
)
def test_equal_to_open_clip_s_transform(resize, interpolation, fill) -> None:
    mean, std = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)
    ours = Preprocessing(64, mean, std, interpolation, resize, fill)
    config = PreprocessCfg(64, "RGB", mean, std, interpolation, resize, fill)
    theirs = image_transform_v2(config, is_train=False)
    grey_level = 1 / 255 / torch.tensor(std)[:, None, None]
    for size in SIZES:
        image = photograph(*size)
        difference = (ours.centre(image) - theirs(image)).abs()
        assert (difference <= grey_level).all(), size


@pytest.mark.parametrize(
    "described",
    [
        {"mean": [0.1] * 3, "std": [0.2] * 3},
        {"resize_mode": "squash", "interpolation": "bilinear"},
        {"resize_mode": "longest", "fill_color": 90},
    ],
)
def test_a_model_is_loaded_with_its_own(tmp_path, described) -> None:
    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 1}
        | {"layers": 1},
    }
    (tmp_path / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": config, "preprocess_cfg": described})
    )
    model = open_clip.CLIP(**config)
    torch.save(model.state_dict(), tmp_path / "open_clip_pytorch_model.bin")
    name = f"local-dir:{tmp_path}"
    ours = BackboneOptions(model=name).load().preprocessing
    theirs = open_clip.create_model_and_transforms(name)[2]
    image = photograph(97, 60)
    torch.testing.assert_close(ours.centre(image), theirs(image), rtol=0, atol=0)


def test_every_published_model_s_preprocessing_is_open_clip_s() -> None:
    """Every architecture and tag: their configurations come down to few different ones."""
    seen = {}
    for name, tag in open_clip.list_pretrained():
        vision = (open_clip.get_model_config(name) or {})["vision_cfg"]
        size = vision.get("image_size", 224)
        if isinstance(size, int):
            given = open_clip.get_pretrained_cfg(name, tag)
            kept = ("mean", "std", "interpolation", "resize_mode")
            config = PreprocessCfg(size, **{k: given[k] for k in kept if given.get(k)})
            seen[repr(config)] = config
    assert len(seen) > 10
    image = photograph(300, 211)
    for config in seen.values():
        ours, theirs = preprocessing_of(asdict(config)), image_transform_v2(config, is_train=False)
        assert torch.equal(ours.centre(image), theirs(image)), config


def test_square_images_of_the_embedded_model_are_as_they_were() -> None:
    """Digits and scenes: their features, and the fingerprint of the model, must not change."""
    preprocessing = FrozenCLIP.embedded().preprocessing
    for side in (8, 32, 96):
        image = photograph(side, side)
        resized = np.asarray(image.resize((32, 32), Image.Resampling.BICUBIC), np.float32) / 255
        mean, std = torch.tensor(preprocessing.mean), torch.tensor(preprocessing.std)
        expected = ((torch.from_numpy(resized) - mean) / std).permute(2, 0, 1)
        assert torch.equal(preprocessing.centre(image), expected)
    assert repr(preprocessing).endswith("interpolation='bicubic', resize='shortest')")
    assert repr(Preprocessing(8, (0.5,) * 3, (0.5,) * 3, fill=9)).endswith("fill=9)")
