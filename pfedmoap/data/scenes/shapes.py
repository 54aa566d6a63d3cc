"""The 32 filled shapes as signed-distance functions on the square from -1 to 1, y down."""

import math
from collections.abc import Callable

import numpy as np

from pfedmoap.data.scenes.sdf import (
    FloatArray,
    Points,
    box,
    circle,
    ellipse,
    minus,
    polygon,
    regular,
    starred,
    union,
)

Distance = Callable[[FloatArray, FloatArray], FloatArray]


def _corners(points: Points) -> Distance:
    return lambda x, y: polygon(x, y, points)


def _heart(x: FloatArray, y: FloatArray) -> FloatArray:
    lobes = union(circle(x, y, -0.45, -0.35, 0.5), circle(x, y, 0.45, -0.35, 0.5))
    return union(lobes, polygon(x, y, [(-0.88, -0.1), (0, -0.45), (0.88, -0.1), (0, 0.95)]))


def _moon(x: FloatArray, y: FloatArray) -> FloatArray:
    return minus(circle(x, y, 0, 0, 0.95), circle(x, y, 0.5, -0.1, 0.8))


def _cloud(x: FloatArray, y: FloatArray) -> FloatArray:
    puffs = union(circle(x, y, -0.5, 0.1, 0.42), circle(x, y, 0.5, 0.12, 0.42))
    return union(puffs, circle(x, y, -0.05, -0.2, 0.5), box(x, y, 0, 0.35, 0.6, 0.18))


def _flower(x: FloatArray, y: FloatArray) -> FloatArray:
    angle, radius = np.arctan2(y, x), np.hypot(x, y)
    petals = (radius - 0.68 - 0.28 * np.cos(5 * angle + math.pi / 2)) * 0.7
    return minus(petals, circle(x, y, 0, 0, 0.2))


def _gear(x: FloatArray, y: FloatArray) -> FloatArray:
    angle, radius = np.arctan2(y, x), np.hypot(x, y)
    teeth = radius - 0.78 - 0.17 * np.tanh(4 * np.cos(8 * angle))
    return minus(teeth * 0.8, circle(x, y, 0, 0, 0.36))


def _tree(x: FloatArray, y: FloatArray) -> FloatArray:
    upper = polygon(x, y, [(0, -1), (0.5, -0.2), (-0.5, -0.2)])
    lower = polygon(x, y, [(0, -0.5), (0.75, 0.5), (-0.75, 0.5)])
    return union(upper, lower, box(x, y, 0, 0.72, 0.15, 0.26))


def _mushroom(x: FloatArray, y: FloatArray) -> FloatArray:
    cap = np.maximum(circle(x, y, 0, 0, 0.92), y)
    return union(cap, box(x, y, 0, 0.45, 0.25, 0.5))


def _anchor(x: FloatArray, y: FloatArray) -> FloatArray:
    eye = np.abs(circle(x, y, 0, -0.72, 0.2)) - 0.1
    bow = np.maximum(np.abs(circle(x, y, 0, 0.15, 0.68)) - 0.12, 0.25 - y)
    stem = union(box(x, y, 0, 0.15, 0.12, 0.75), box(x, y, 0, -0.25, 0.4, 0.11))
    return union(eye, stem, bow)


def _key(x: FloatArray, y: FloatArray) -> FloatArray:
    bow = minus(circle(x, y, -0.55, 0, 0.44), circle(x, y, -0.55, 0, 0.18))
    teeth = union(box(x, y, 0.8, 0.22, 0.11, 0.25), box(x, y, 0.45, 0.2, 0.1, 0.2))
    return union(bow, box(x, y, 0.35, 0, 0.6, 0.13), teeth)


def _drop(x: FloatArray, y: FloatArray) -> FloatArray:
    tip = polygon(x, y, [(0, -1), (0.52, 0.12), (-0.52, 0.12)])
    return union(circle(x, y, 0, 0.35, 0.58), tip)


def _dome(x: FloatArray, y: FloatArray) -> FloatArray:
    distance: FloatArray = np.maximum(circle(x, y, 0, 0.5, 1.0), y - 0.5)
    return distance


def _fish(x: FloatArray, y: FloatArray) -> FloatArray:
    tail = polygon(x, y, [(0.35, 0), (0.95, -0.5), (0.95, 0.5)])
    body = minus(ellipse(x + 0.25, y, 0.72, 0.48), circle(x, y, -0.6, -0.12, 0.11))
    return union(body, tail)


def _cup(x: FloatArray, y: FloatArray) -> FloatArray:
    body = polygon(x, y, [(-0.8, -0.75), (0.4, -0.75), (0.28, 0.8), (-0.68, 0.8)])
    handle = np.maximum(np.abs(circle(x, y, 0.42, -0.1, 0.4)) - 0.11, 0.3 - x)
    return union(body, handle)


def _umbrella(x: FloatArray, y: FloatArray) -> FloatArray:
    cover = np.maximum(circle(x, y, 0, -0.02, 0.95), y + 0.1)
    hook = np.maximum(np.abs(circle(x, y, -0.2, 0.7, 0.2)) - 0.09, 0.7 - y)
    return union(cover, box(x, y, 0, 0.3, 0.08, 0.42), hook)


def _leaf(x: FloatArray, y: FloatArray) -> FloatArray:
    blade = np.maximum(circle(x, y, -0.55, 0, 1.0), circle(x, y, 0.55, 0, 1.0))
    return union(blade, box(x, y, 0, 0.85, 0.07, 0.15))


def _spiral(x: FloatArray, y: FloatArray) -> FloatArray:
    angle, radius = np.arctan2(y, x), np.hypot(x, y)
    pitch = 0.42
    offset = radius - pitch * angle / (2 * math.pi)
    arm = np.abs(offset - pitch * np.round(offset / pitch)) - 0.1
    return np.maximum(arm, radius - 0.98)


_BAR = 0.33
SHAPE_DISTANCES: dict[str, Distance] = {
    "circle": lambda x, y: circle(x, y, 0, 0, 0.9),
    "oval": lambda x, y: ellipse(x, y, 1.0, 0.55),
    "square": lambda x, y: box(x, y, 0, 0, 0.8, 0.8),
    "rectangle": lambda x, y: box(x, y, 0, 0, 1.0, 0.5),
    "triangle": _corners([(0, -0.95), (0.95, 0.75), (-0.95, 0.75)]),
    "diamond": _corners([(0, -1), (0.72, 0), (0, 1), (-0.72, 0)]),
    "pentagon": _corners(regular(5, 0.98)),
    "hexagon": _corners(regular(6, 0.95, 0)),
    "star": _corners(starred(5, 0.42, 1.05)),
    "cross": lambda x, y: union(box(x, y, 0, 0, 0.95, _BAR), box(x, y, 0, 0, _BAR, 0.95)),
    "ring": lambda x, y: np.abs(circle(x, y, 0, 0, 0.72)) - 0.24,
    "heart": _heart,
    "moon": _moon,
    "arrow": _corners(
        [(-1, -0.25), (0.1, -0.25), (0.1, -0.75), (1, 0), (0.1, 0.75), (0.1, 0.25), (-1, 0.25)]
    ),
    "hourglass": _corners(
        [(-0.75, -0.95), (0.75, -0.95), (0.1, 0), (0.75, 0.95), (-0.75, 0.95), (-0.1, 0)]
    ),
    "cloud": _cloud,
    "flower": _flower,
    "house": _corners(
        [
            (0, -1),
            (0.95, -0.15),
            (0.7, -0.15),
            (0.7, 0.9),
            (-0.7, 0.9),
            (-0.7, -0.15),
            (-0.95, -0.15),
        ]
    ),
    "tree": _tree,
    "mushroom": _mushroom,
    "anchor": _anchor,
    "key": _key,
    "bolt": _corners(
        [(0.3, -1), (-0.6, 0.15), (-0.05, 0.15), (-0.35, 1), (0.6, -0.2), (0.05, -0.2)]
    ),
    "drop": _drop,
    "dome": _dome,
    "trapezoid": _corners([(-0.5, -0.6), (0.5, -0.6), (1, 0.6), (-1, 0.6)]),
    "fish": _fish,
    "cup": _cup,
    "umbrella": _umbrella,
    "leaf": _leaf,
    "gear": _gear,
    "spiral": _spiral,
}
"""Signed distance of each shape; keys in the order of `vocabulary.SHAPES`."""
