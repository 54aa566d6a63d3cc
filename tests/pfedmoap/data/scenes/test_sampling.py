"""What is drawn, and above all what is held out."""

from dataclasses import fields

import numpy as np
import pytest

from pfedmoap.data.scenes.sampling import (
    Attributes,
    concatenate,
    contrasting_backgrounds,
    in_style,
    sample,
    scenes_of,
)
from pfedmoap.data.scenes.vocabulary import COLOURS, SEEN_STYLES, SHAPES, STYLES, held_out


def _held_out(scenes: Attributes) -> np.ndarray:
    return held_out()[scenes.kinds, scenes.colours, scenes.textures]


def test_about_a_tenth_is_held_out() -> None:
    assert held_out().shape == (58, 12, 6)
    assert 0.08 < held_out().mean() < 0.12


@pytest.mark.parametrize("held_out_only", [False, True])
def test_pretraining_and_evaluation_never_share_a_combination(held_out_only: bool) -> None:
    scenes = sample(3000, np.random.default_rng(0), held_out_only=held_out_only)
    assert (_held_out(scenes) == held_out_only).all()


def test_pretraining_never_shows_an_unseen_style() -> None:
    scenes = sample(3000, np.random.default_rng(0))
    assert {STYLES[style] for style in scenes.styles} == set(SEEN_STYLES)


def test_objects_contrast_with_their_background() -> None:
    scenes = sample(2000, np.random.default_rng(0), shared=1.0)
    allowed = contrasting_backgrounds()
    assert all(b in allowed[c] for c, b in zip(scenes.colours, scenes.backgrounds, strict=True))


def test_easy_scenes_are_large_single_centred_photos() -> None:
    scenes = sample(500, np.random.default_rng(0), difficulty=0.0)
    assert not scenes.counts.any()
    assert not scenes.positions.any()
    assert not scenes.styles.any()
    assert (scenes.sizes == 1).all()


def test_strokes_are_solid() -> None:
    scenes = sample(2000, np.random.default_rng(0))
    assert not scenes.textures[scenes.kinds >= len(SHAPES)].any()


def test_sharing_gives_a_batch_one_value() -> None:
    scenes = sample(100, np.random.default_rng(0), shared=1.0)
    assert len(set(scenes.sizes)) == 1
    assert len(set(scenes.backgrounds)) < len(COLOURS)


def test_given_combinations_are_kept() -> None:
    kinds, colours, textures = np.arange(10), np.arange(10), np.arange(10) % 6
    scenes = in_style(scenes_of(kinds, colours, textures, np.random.default_rng(0)), "solar")
    np.testing.assert_array_equal(scenes.kinds, kinds)
    np.testing.assert_array_equal(scenes.textures, textures)
    assert {STYLES[style] for style in scenes.styles} == {"solar"}


def test_selecting_and_joining_undo_each_other() -> None:
    scenes = sample(20, np.random.default_rng(0))
    joined = concatenate([scenes[:7], scenes[np.arange(7, 20)]])
    for field in fields(scenes):
        np.testing.assert_array_equal(getattr(joined, field.name), getattr(scenes, field.name))
