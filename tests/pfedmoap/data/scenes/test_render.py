"""Pixels: determinism, styles by hand, and that attributes are visible."""

from dataclasses import replace

import numpy as np
import pytest

from pfedmoap.data.scenes.render import render
from pfedmoap.data.scenes.sampling import Attributes, in_style, sample
from pfedmoap.data.scenes.styles import apply_style
from pfedmoap.data.scenes.vocabulary import COLOURS, SHAPES, STYLES
from pfedmoap.errors import DataError


def _scenes(n: int, difficulty: float = 1.0) -> Attributes:
    return sample(n, np.random.default_rng(0), difficulty=difficulty)


def test_pictures_are_a_function_of_the_seed() -> None:
    scenes = _scenes(64)
    first, again, other = (render(scenes, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first.shape == (64, 32, 32, 3)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_centre_shows_the_object_and_corner_the_background() -> None:
    scenes = _scenes(200, difficulty=0.0)
    zeros = np.zeros_like(scenes.kinds)
    scenes = replace(scenes, kinds=zeros + SHAPES.index("circle"), textures=zeros)
    pixels = render(scenes, np.random.default_rng(0)) / 255
    rgb = np.array(list(COLOURS.values()))
    # The exact place, hue and light are jittered, hence the tolerance.
    assert np.abs(pixels[:, 16, 16] - rgb[scenes.colours]).max() < 0.2
    assert np.abs(pixels[:, 0, 0] - rgb[scenes.backgrounds]).max() < 0.35


def test_more_objects_fill_more_of_the_picture_than_one_small_one() -> None:
    scenes = _scenes(50, difficulty=0.0)
    black_on_white = replace(
        scenes,
        kinds=np.zeros(50, dtype=np.int64),
        textures=np.zeros(50, dtype=np.int64),
        colours=np.full(50, list(COLOURS).index("black")),
        backgrounds=np.full(50, list(COLOURS).index("white")),
        sizes=np.zeros(50, dtype=np.int64),
    )
    one = render(black_on_white, np.random.default_rng(0)) < 128
    four = render(replace(black_on_white, counts=np.full(50, 3)), np.random.default_rng(0)) < 128
    assert four.mean() > 1.3 * one.mean()


@pytest.mark.parametrize("style", STYLES)
def test_every_style_gives_valid_distinct_pictures(style: str) -> None:
    scenes = in_style(_scenes(16), "photo")
    plain = render(scenes, np.random.default_rng(0))
    styled = render(in_style(scenes, style), np.random.default_rng(0))
    assert styled.shape == plain.shape
    assert (style == "photo") == bool((styled == plain).all())
    assert styled.std() > 5


def test_negative_and_swapped_by_hand() -> None:
    image = np.broadcast_to(np.array([0.25, 0.5, 1.0], dtype=np.float32), (1, 32, 32, 3))
    rng = np.random.default_rng(0)
    np.testing.assert_allclose(apply_style(image, "negative", rng)[0, 0, 0], [0.75, 0.5, 0])
    np.testing.assert_allclose(apply_style(image, "swapped", rng)[0, 0, 0], [1, 0.25, 0.5])


def test_an_unknown_style_is_named() -> None:
    with pytest.raises(DataError, match="'cubist'"):
        apply_style(np.zeros((1, 32, 32, 3), dtype=np.float32), "cubist", np.random.default_rng(0))
