"""Captions say only what is true, and use only known words."""

import numpy as np

from pfedmoap.data.scenes.captions import FILLER, STYLE_PHRASES, captions, vocabulary_words
from pfedmoap.data.scenes.sampling import in_style, sample
from pfedmoap.data.scenes.vocabulary import (
    CLASSES,
    COLOURS,
    POSITIONS,
    SEEN_STYLES,
    SIZES,
    STYLES,
    TEXTURES,
)

SCENES = sample(2000, np.random.default_rng(0))


def _split(caption: str) -> list[str]:
    return caption.replace(",", "").replace(".", "").split()


def test_captions_use_only_the_vocabulary_and_vary() -> None:
    texts = captions(SCENES, np.random.default_rng(1))
    words = {word for text in texts for word in _split(text)}
    assert words - set(vocabulary_words()) <= {"shapes", "objects"}
    assert len(set(texts)) > 1500
    assert 0.6 < np.mean([text.endswith(".") for text in texts]) < 0.9
    assert texts == captions(SCENES, np.random.default_rng(1))


def test_every_seen_style_has_phrases() -> None:
    assert tuple(STYLE_PHRASES) == SEEN_STYLES


def test_colours_that_a_caption_names_are_those_of_the_scene() -> None:
    colours = list(COLOURS)
    photos = in_style(SCENES, "photo")
    for i, text in enumerate(captions(photos, np.random.default_rng(2))):
        named = set(_split(text)) & set(colours)
        assert named <= {colours[photos.colours[i]], colours[photos.backgrounds[i]]}


def test_misleading_styles_are_described_only_under_their_name() -> None:
    for text in captions(in_style(SCENES, "negative"), np.random.default_rng(3)):
        assert "negative" in text or not set(_split(text)) & set(COLOURS)


def test_colourless_styles_never_name_a_colour() -> None:
    for text in captions(in_style(SCENES, "sketch"), np.random.default_rng(4)):
        assert not set(_split(text)) & set(COLOURS)


def test_filler_says_nothing() -> None:
    words = [*CLASSES, *COLOURS, *TEXTURES, *POSITIONS, *SIZES, *STYLES]
    assert not set(FILLER) & {part for word in words for part in word.split()}
