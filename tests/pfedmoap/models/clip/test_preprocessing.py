"""Features of kind ``pixels``: the preprocessed images themselves, for models out of reach."""

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from pfedmoap.data.dataset import ImageDataset
from pfedmoap.data.features import cached_features
from pfedmoap.errors import BackboneError
from pfedmoap.models.clip.preprocessing import Preprocessing


def test_pixels_are_the_images_and_cost_no_pass(clip):
    images = torch.randn(3, 3, 32, 32)
    passes = []
    handle = clip.model.visual.register_forward_hook(lambda *_: passes.append(1))
    found = clip.features(images, ("pixels",))
    assert found.keys() == {"pixels"}
    assert torch.equal(found["pixels"], images)
    assert not passes
    both = clip.features(images, ("pixels", "image"))
    handle.remove()
    assert torch.equal(both["pixels"], images)
    assert torch.equal(both["image"], clip.image_features(images))


def test_white_box_features_are_the_same_with_a_gradient(clip):
    images = torch.randn(2, 3, 32, 32).requires_grad_()
    features = clip.differentiable_image_features(images)
    assert torch.allclose(features.detach(), clip.image_features(images), atol=1e-6)
    (gradient,) = torch.autograd.grad(features[:, 0].sum(), images)
    assert gradient.norm() > 0


def test_unknown_kinds_are_named(clip):
    with pytest.raises(BackboneError, match=r"kind .depth.*pixels"):
        clip.features(torch.zeros(1, 3, 32, 32), ("depth",))


def test_pixels_are_cached_like_other_features(clip, tmp_path):
    pictures = np.random.default_rng(0).integers(0, 255, (4, 40, 30, 3), dtype=np.uint8)
    dataset = ImageDataset(
        name="four",
        class_names=("a", "b"),
        labels=np.array([0, 1, 0, 1]),
        is_test=np.array([False, False, True, True]),
        load=lambda index: Image.fromarray(pictures[index]),
        fingerprint="four",
        templates=("{}",),
    )
    for _ in range(2):
        table = cached_features(dataset, clip, tmp_path, kinds=("pixels",), views=2, progress=False)
        centre = np.stack([clip.preprocessing.centre(dataset.load(i)).numpy() for i in range(4)])
        assert np.array_equal(table.centre("pixels"), centre)
        assert table.train_views("pixels").shape == (4, 2, 3, 32, 32)


@pytest.mark.parametrize("resize", ["shortest", "longest", "squash"])
def test_the_centre_view_is_open_clips_own_to_the_bit(resize):
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    preprocessing = Preprocessing(24, mean, std, "bicubic", resize, fill=7)
    expected = open_clip.image_transform(
        24, is_train=False, mean=mean, std=std, resize_mode=resize, fill_color=7
    )
    pixels = np.random.default_rng(0).integers(0, 256, (31, 50, 3), np.uint8)
    for image in (Image.fromarray(pixels), Image.fromarray(pixels[..., 0])):
        found = preprocessing.centre(image)
        assert torch.equal(found, expected(image.convert("RGB")))
        assert found.is_contiguous()
