"""What is in each scene: attributes as integer arrays, and how they are drawn at random."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from pfedmoap.data.scenes.vocabulary import (
    CLASSES,
    COLOURS,
    COUNTS,
    DIGIT_WORDS,
    POSITIONS,
    SEEN_STYLES,
    SHAPES,
    SIZES,
    STYLES,
    TEXTURES,
    held_out,
)

IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Attributes:
    """The contents of ``n`` scenes, each an index into its list in `vocabulary`.

    Attributes:
        kinds: Index into ``CLASSES`` (n,).
        colours: Index into ``COLOURS`` (n,).
        textures: Index into ``TEXTURES`` (n,).
        backgrounds: Index into ``COLOURS`` (n,); always contrasts with the object's colour.
        positions: Index into ``POSITIONS`` (n,); only single objects leave the centre.
        counts: Number of objects minus one (n,).
        sizes: Index into ``SIZES`` (n,).
        styles: Index into ``STYLES`` (n,).
    """

    kinds: IntArray
    colours: IntArray
    textures: IntArray
    backgrounds: IntArray
    positions: IntArray
    counts: IntArray
    sizes: IntArray
    styles: IntArray

    def __len__(self) -> int:
        return len(self.kinds)

    def __getitem__(self, rows: IntArray | slice) -> "Attributes":
        """Select scenes."""
        return Attributes(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})


def concatenate(parts: Sequence[Attributes]) -> Attributes:
    """Join scenes in order."""
    names = [field.name for field in fields(Attributes)]
    return Attributes(**{n: np.concatenate([getattr(p, n) for p in parts]) for n in names})


@cache
def contrasting_backgrounds() -> tuple[IntArray, ...]:
    """For each colour, the colours that an object of it can be seen on."""
    rgb = np.array(list(COLOURS.values()))
    far = np.linalg.norm(rgb[:, None] - rgb[None], axis=-1) > 0.5
    return tuple(np.flatnonzero(row) for row in far)


def sample(
    n: int,
    rng: np.random.Generator,
    *,
    difficulty: float = 1.0,
    shared: float = 0.0,
    held_out_only: bool = False,
) -> Attributes:
    """Draw scenes, either as pretraining does or from what pretraining never shows.

    Args:
        n: How many.
        rng: The random stream to draw from.
        difficulty: 0 gives large, centred, single, mostly solid photos; 1 the full variety.
        shared: Probability, for each of background, position, count and size, that all scenes
            of this call have the same value, so that they differ only in the rest.
        held_out_only: Draw the held-out combinations of class, colour and texture instead of
            all the others.

    Returns:
        Attributes of ``n`` scenes, in the styles seen in pretraining.
    """
    kinds, colours, textures = _combinations(n, rng, difficulty, held_out_only)
    positions = np.where(rng.random(n) < 0.5 * difficulty, rng.integers(len(POSITIONS), size=n), 0)
    counts = np.where(rng.random(n) < 0.25 * difficulty, rng.integers(len(COUNTS), size=n), 0)
    large = (rng.random(n) < 1 - 0.4 * difficulty).astype(np.int64)
    sizes = large * SIZES.index("large")
    backgrounds = _backgrounds(colours, rng)
    if rng.random() < shared:
        positions = np.full(n, positions[0])
    if rng.random() < shared:
        counts = np.full(n, counts[0])
    if rng.random() < shared:
        sizes = np.full(n, sizes[0])
    if rng.random() < shared:
        common = rng.integers(len(COLOURS))
        fits = np.array([common in allowed for allowed in contrasting_backgrounds()])
        backgrounds = np.where(fits[colours], common, backgrounds)
    styled = rng.random(n) < 0.5 * difficulty
    styles = np.where(styled, rng.integers(1, len(SEEN_STYLES), size=n), 0)
    return Attributes(
        kinds=kinds,
        colours=colours,
        textures=textures,
        backgrounds=backgrounds,
        positions=np.where(counts > 0, 0, positions),
        counts=counts,
        sizes=sizes,
        styles=styles,
    )


def scenes_of(
    kinds: IntArray, colours: IntArray, textures: IntArray, rng: np.random.Generator
) -> Attributes:
    """Draw the rest of scenes whose class, colour and texture are given; all are photos.

    Args:
        kinds: Index into ``CLASSES`` (n,).
        colours: Index into ``COLOURS`` (n,).
        textures: Index into ``TEXTURES`` (n,).
        rng: The random stream to draw from.

    Returns:
        Attributes of ``n`` scenes.
    """
    rest = sample(len(kinds), rng)
    return replace(
        rest,
        kinds=kinds,
        colours=colours,
        textures=textures,
        backgrounds=_backgrounds(colours, rng),
        styles=np.zeros(len(kinds), dtype=np.int64),
    )


def in_style(attributes: Attributes, style: str) -> Attributes:
    """Give all scenes one style, named as in ``STYLES``."""
    return replace(attributes, styles=np.full(len(attributes), STYLES.index(style)))


def _combinations(
    n: int, rng: np.random.Generator, difficulty: float, held_out_only: bool
) -> tuple[IntArray, IntArray, IntArray]:
    # Digits count double: they are few, and real digits are written in more ways than ours.
    weights = np.ones(len(CLASSES))
    weights[len(SHAPES) : len(SHAPES) + len(DIGIT_WORDS)] = 2
    kinds = np.empty(n, dtype=np.int64)
    colours, textures = np.empty_like(kinds), np.empty_like(kinds)
    todo = np.arange(n)
    while len(todo):
        kind = rng.choice(len(CLASSES), size=len(todo), p=weights / weights.sum())
        colour = rng.integers(len(COLOURS), size=len(todo))
        texture = rng.integers(len(TEXTURES), size=len(todo))
        solid = (rng.random(len(todo)) < 0.7 - 0.35 * difficulty) | (kind >= len(SHAPES))
        texture = np.where(solid, 0, texture)
        kinds[todo], colours[todo], textures[todo] = kind, colour, texture
        todo = todo[held_out()[kind, colour, texture] != held_out_only]
    return kinds, colours, textures


def _backgrounds(colours: IntArray, rng: np.random.Generator) -> IntArray:
    allowed = contrasting_backgrounds()
    draws = rng.random(len(colours))
    return np.array(
        [allowed[c][int(u * len(allowed[c]))] for c, u in zip(colours, draws, strict=True)],
        dtype=np.int64,
    )
