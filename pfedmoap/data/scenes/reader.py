"""Rendered attribute scenes as a data set: confusable classes, and styles as domains."""

import hashlib
import itertools
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pfedmoap.config.bounds import Bounds
from pfedmoap.data.dataset import ImageDataset, IntArray
from pfedmoap.data.scenes.render import render
from pfedmoap.data.scenes.sampling import in_style, scenes_of
from pfedmoap.data.scenes.vocabulary import CLASSES, COLOURS, SHAPES, STYLES, TEXTURES, held_out
from pfedmoap.errors import ConfigError
from pfedmoap.seeding import numpy_generator

Grid = Literal["combos24", "confus40", "shapes32"]


@dataclass(frozen=True)
class Scenes:
    """Pictures of coloured, textured shapes, rendered on the fly; each style is a domain.

    The embedded backbone was pretrained on scenes of this kind, but on none of the combinations
    of ``combos24``, and in none of the styles thermal, solar, neon, wavy, lines and rotated.

    Examples:
        >>> scenes = Scenes(styles=("photo", "thermal"), train_per_cell=2, test_per_cell=1).read()
        >>> len(scenes), scenes.class_names[0], scenes.domain_names
        (144, 'dotted red circle', ('photo', 'thermal'))

    Attributes:
        grid: ``combos24``: 24 held-out "texture colour shape" classes; ``confus40``: the full
            grid of 5 alike shapes, 4 alike colours and 2 textures; ``shapes32``: the 32 shapes,
            whatever their colour and texture, in combinations held out from pretraining.
        styles: Names from ``pfedmoap.data.scenes.vocabulary.STYLES``; more than one makes domains.
        train_per_cell: Training images of each class in each style.
        test_per_cell: Test images of each class in each style.
        seed: Seed of the pictures; a style's pictures do not depend on the other styles.
    """

    grid: Grid = "combos24"
    styles: tuple[str, ...] = ("photo",)
    train_per_cell: Annotated[int, Bounds(ge=1, le=100_000)] = 32
    test_per_cell: Annotated[int, Bounds(ge=1, le=100_000)] = 32
    seed: int = 0

    def read(self) -> ImageDataset:
        """Render the data set.

        Returns:
            The data set: style by style, class by class, training images before test images.

        Raises:
            ConfigError: An option is unknown, or there is nothing to render.
        """
        self._check()
        per_cell = self.train_per_cell + self.test_per_cell
        names, cells = grid_classes(self.grid)
        labels = np.repeat(np.arange(len(names)), per_cell)
        pixels = np.concatenate([self._draw(cells, labels, style) for style in self.styles])
        in_test = np.arange(per_cell) >= self.train_per_cell
        copies = len(self.styles)
        return ImageDataset(
            name=f"scenes-{self.grid}",
            class_names=names,
            labels=np.tile(labels, copies),
            is_test=np.tile(in_test, len(names) * copies),
            load=_Pixels(pixels),
            fingerprint=hashlib.sha256(b"scenes 1" + pixels.tobytes()).hexdigest(),
            domains=np.repeat(np.arange(copies), len(labels)) if copies > 1 else None,
            domain_names=self.styles if copies > 1 else (),
            templates=("a photo of a {}.",),
        )

    def _check(self) -> None:
        if unknown := [style for style in self.styles if style not in STYLES]:
            raise ConfigError(f"unknown styles {unknown}, expected some of {', '.join(STYLES)}")
        if not self.styles or len(set(self.styles)) != len(self.styles):
            raise ConfigError(f"styles are {self.styles}, expected at least one, each once")
        if self.train_per_cell < 1 or self.test_per_cell < 1:
            raise ConfigError(
                f"there are {self.train_per_cell} training and {self.test_per_cell} test images "
                "in a cell, expected at least 1 of each"
            )

    def _draw(self, cells: list[IntArray], labels: IntArray, style: str) -> NDArray[np.uint8]:
        rng = numpy_generator(self.seed, "scenes", self.grid, style)
        triples = np.stack([cells[k][rng.integers(len(cells[k]))] for k in labels])
        kinds, colours, textures = triples.T
        attributes = in_style(scenes_of(kinds, colours, textures, rng), style)
        chunks = np.array_split(np.arange(len(labels)), max(1, len(labels) // 512))
        return np.concatenate([render(attributes[rows], rng) for rows in chunks])


def grid_classes(grid: Grid) -> tuple[tuple[str, ...], list[IntArray]]:
    """List a grid's classes.

    Args:
        grid: See `Scenes`.

    Returns:
        The names of the C classes, and for each the (kind, colour, texture) triples that it is
        drawn from, (m, 3).

    Raises:
        ConfigError: The grid is unknown.
    """
    if grid == "shapes32":
        triples = np.argwhere(held_out())
        return tuple(SHAPES), [triples[triples[:, 0] == kind] for kind in range(len(SHAPES))]
    if grid == "combos24":
        chosen = [triple for triple in _cross(*_COMBOS) if held_out()[triple]][:24]
    elif grid == "confus40":
        chosen = list(_cross(*_CONFUSABLE))
    else:
        raise ConfigError(f"grid is {grid!r}, expected combos24, confus40 or shapes32")
    colours = list(COLOURS)
    names = tuple(f"{TEXTURES[t]} {colours[c]} {CLASSES[k]}" for k, c, t in chosen)
    return names, [np.array([triple]) for triple in chosen]


def _cross(shapes: str, colours: str, textures: str) -> "itertools.product[tuple[int, int, int]]":
    kinds = [SHAPES.index(word) for word in shapes.split()]
    hues = [list(COLOURS).index(word) for word in colours.split()]
    return itertools.product(kinds, hues, [TEXTURES.index(word) for word in textures.split()])


# Few enough shapes and colours that most classes share two attributes with another class.
_COMBOS = (
    "circle square triangle diamond star heart moon arrow flower house",
    "red green blue yellow orange purple cyan white",
    "solid striped dotted hollow",
)
# Shapes and colours close to each other, so that neither a word nor a pixel decides alone.
_CONFUSABLE = (
    "circle pentagon hexagon flower gear",
    "red orange pink purple",
    "striped dotted",
)


@dataclass(frozen=True)
class _Pixels:
    """Serves images held in memory, (n, 32, 32, 3) uint8."""

    pixels: NDArray[np.uint8]

    def __call__(self, index: int) -> Image.Image:
        return Image.fromarray(self.pixels[index])
