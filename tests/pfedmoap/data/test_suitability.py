"""Photographs that the embedded model is given are pointed out, and nothing else is."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from pfedmoap.data.dataset import ImageDataset
from pfedmoap.data.digits import Digits
from pfedmoap.data.features import cached_features
from pfedmoap.data.suitability import warn_of_few, warn_of_photographs
from pfedmoap.models.clip.clip import FrozenCLIP
from pfedmoap.models.clip.tiny import tiny_clip


def pictures(side: int) -> ImageDataset:
    return ImageDataset(
        "album",
        ("cat", "dog"),
        np.array([0, 1, 0, 1]),
        np.array([False, False, True, True]),
        lambda index: Image.new("RGB", (side, side + 9), (index, 0, 0)),
        f"pictures of {side}",
    )


@pytest.mark.parametrize(("side", "warned"), [(32, False), (64, False), (65, True), (500, True)])
def test_large_images_are_taken_for_photographs(side: int, warned: bool, caplog):
    warn_of_photographs(pictures(side), FrozenCLIP.embedded())
    assert ("is no model of photographs" in caplog.text) == warned
    if warned:
        assert (
            f"album holds images as large as photographs (the shorter side has {side} pix"
            in caplog.text
        )
        assert "--backbone.model" in caplog.text


def test_other_models_and_drawn_images_get_no_warning(caplog):
    warn_of_photographs(pictures(500), tiny_clip())
    warn_of_photographs(Digits().read(), FrozenCLIP.embedded())
    assert caplog.text == ""


def test_whoever_encodes_is_warned_and_what_cannot_be_read_is_left_to_it(tmp_path, caplog):
    cached_features(pictures(100), FrozenCLIP.embedded(), tmp_path, progress=False)
    assert "is no model of photographs" in caplog.text
    caplog.clear()

    def gone(index: int) -> Image.Image:
        raise FileNotFoundError(index)

    warn_of_photographs(replace(pictures(100), load=gone), FrozenCLIP.embedded())
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([0, 0, 0, 0], "album has one class alone (cat), so that every answer is right"),
        ([0, 0, 1, 0], "album has one image alone of 1 of its 2 classes (dog)"),
        ([0, 1, 1, 0], ""),
    ],
)
def test_a_class_alone_and_a_class_of_one_image_are_told_of(labels, said, caplog):
    names = ("cat", "dog")[: max(labels) + 1]
    warn_of_few(replace(pictures(32), class_names=names, labels=np.array(labels)))
    assert said in caplog.text
    assert bool(said) == bool(caplog.text)
