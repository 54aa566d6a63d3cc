"""The words of the attribute scenes: what can be drawn, in which order, and what is held out."""

import hashlib
from functools import cache

import numpy as np
from numpy.typing import NDArray

# fmt: off
SHAPES = [
    "circle", "oval", "square", "rectangle", "triangle", "diamond", "pentagon", "hexagon",
    "star", "cross", "ring", "heart", "moon", "arrow", "hourglass", "cloud",
    "flower", "house", "tree", "mushroom", "anchor", "key", "bolt", "drop",
    "dome", "trapezoid", "fish", "cup", "umbrella", "leaf", "gear", "spiral",
]
# fmt: on
"""The 32 filled shapes; their position in this list is their class."""

DIGIT_WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
"""The ten digits, spelled out; drawn as pen strokes."""

LETTERS = ["a", "b", "c", "e", "f", "h", "k", "l", "m", "n", "r", "t", "u", "x", "y", "z"]
"""The 16 letters; drawn as pen strokes."""

CLASSES: tuple[str, ...] = (
    *SHAPES,
    *(f"digit {digit}" for digit in range(10)),
    *(f"letter {letter}" for letter in LETTERS),
)
"""All 58 classes: shapes, then digits, then letters."""

COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.88, 0.10, 0.12),
    "green": (0.12, 0.62, 0.16),
    "blue": (0.12, 0.22, 0.88),
    "yellow": (0.96, 0.90, 0.15),
    "orange": (0.97, 0.53, 0.08),
    "purple": (0.50, 0.12, 0.66),
    "pink": (0.98, 0.52, 0.74),
    "brown": (0.47, 0.27, 0.10),
    "cyan": (0.15, 0.85, 0.90),
    "white": (0.97, 0.97, 0.97),
    "gray": (0.52, 0.52, 0.52),
    "black": (0.04, 0.04, 0.04),
}
"""Colours of objects and of backgrounds, as RGB on the [0, 1] scale."""

TEXTURES = ("solid", "striped", "checkered", "dotted", "hollow", "rimmed")
"""How a shape is filled; strokes are always solid."""

POSITIONS: dict[str, tuple[int, int]] = {
    "center": (0, 0),
    "top": (0, -1),
    "bottom": (0, 1),
    "left": (-1, 0),
    "right": (1, 0),
    "top left": (-1, -1),
    "top right": (1, -1),
    "bottom left": (-1, 1),
    "bottom right": (1, 1),
}
"""Where a single object stands, as steps to the right and down."""

COUNTS = ("one", "two", "three", "four")
SIZES = ("small", "large")

SEEN_STYLES = (
    "photo",
    "sketch",
    "negative",
    "blurry",
    "pixelated",
    "noisy",
    "dark",
    "faded",
    "gray",
    "swapped",
    "flipped",
)
"""The styles that pretraining draws and names in captions."""

UNSEEN_STYLES = ("thermal", "solar", "neon", "wavy", "lines", "rotated")
"""The styles that pretraining never draws."""

STYLES = (*SEEN_STYLES, *UNSEEN_STYLES)


@cache
def held_out() -> NDArray[np.bool_]:
    """Say which combinations of class, colour and texture pretraining never shows.

    Returns:
        A read-only table (58, 12, 6); about 10% of it is true, chosen by a hash of the words.
    """
    table = np.array(
        [
            [[_hash(kind, colour, texture) % 10 == 0 for texture in TEXTURES] for colour in COLOURS]
            for kind in CLASSES
        ]
    )
    table.setflags(write=False)
    return table


def _hash(*words: str) -> int:
    return int.from_bytes(hashlib.sha256("|".join(words).encode()).digest()[:8], "little")
