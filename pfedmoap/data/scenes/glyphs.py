"""Digits and letters as pen strokes: several ways to write each, bent anew for each image."""

import math

import numpy as np

from pfedmoap.data.scenes.sdf import FloatArray, polyline

Stroke = list[tuple[float, float]]
Glyph = list[Stroke]


def _arc(
    cx: float, cy: float, rx: float, ry: float, start: float, stop: float, steps: int = 8
) -> Stroke:
    """Points on an ellipse; degrees, 0 to the right and 90 down."""
    angles = np.radians(np.linspace(start, stop, steps + 1))
    return [(cx + rx * math.cos(a), cy + ry * math.sin(a)) for a in angles]


_RING = _arc(0, 0, 0.5, 0.88, -90, 270, 12)
_TOP_LOOP = _arc(-0.02, -0.42, 0.46, 0.46, 0, 360, 10)
_LOW_LOOP = _arc(0.02, 0.42, 0.48, 0.46, 180, 540, 10)
_SWEEP = _arc(-0.05, -0.45, 0.5, 0.45, 190, 385, 7)

_DIGITS: list[list[Glyph]] = [
    [[_RING], [_arc(0, 0, 0.38, 0.85, -60, 300, 12)], [_arc(0, 0, 0.62, 0.8, -90, 270, 12)]],
    [
        [[(0, -0.9), (0, 0.9)]],
        [[(-0.35, -0.5), (0.05, -0.9), (0.05, 0.9)]],
        [[(-0.35, -0.55), (0, -0.9), (0, 0.9)], [(-0.4, 0.9), (0.4, 0.9)]],
        [[(0.25, -0.9), (-0.2, 0.9)]],
    ],
    [
        [[*_SWEEP, (-0.5, 0.85), (0.58, 0.85)]],
        [[*_SWEEP, *_arc(-0.3, 0.65, 0.22, 0.2, 60, 330, 5), (0.1, 0.75), (0.6, 0.85)]],
        [[(-0.5, -0.8), (0.2, -0.85), (0.45, -0.5), (0.3, 0.0), (-0.45, 0.85), (0.5, 0.8)]],
    ],
    [
        [[*_arc(-0.05, -0.45, 0.48, 0.44, 200, 440, 7), *_arc(-0.05, 0.43, 0.54, 0.46, -80, 160)]],
        [[(-0.5, -0.88), (0.45, -0.88), (-0.05, -0.15), *_arc(-0.05, 0.37, 0.52, 0.5, -80, 160)]],
    ],
    [
        [[(-0.3, -0.9), (-0.5, 0.15), (0.55, 0.15)], [(0.3, -0.5), (0.2, 0.9)]],
        [[(0.22, 0.9), (0.22, -0.9), (-0.58, 0.3), (0.6, 0.3)]],
        [[(-0.45, -0.85), (-0.45, 0.05), (0.45, 0.05)], [(0.45, -0.85), (0.45, 0.9)]],
    ],
    [
        [[(0.5, -0.86), (-0.36, -0.86), (-0.44, -0.08), *_arc(-0.05, 0.35, 0.54, 0.52, -120, 150)]],
        [
            [
                (0.4, -0.85),
                (-0.25, -0.8),
                (-0.35, 0.0),
                (0.25, 0.0),
                (0.45, 0.4),
                (0.2, 0.85),
                (-0.5, 0.85),
            ]
        ],
    ],
    [
        [[(0.35, -0.88), (-0.15, -0.55), (-0.42, -0.05), *_LOW_LOOP]],
        [[(0.05, -0.9), (-0.35, -0.2), *_arc(0, 0.48, 0.42, 0.4, 180, 500, 9)]],
        [[*_arc(0.1, 0, 0.6, 0.88, -60, -180, 5), *_LOW_LOOP]],
    ],
    [
        [[(-0.52, -0.85), (0.52, -0.85), (-0.12, 0.9)]],
        [[(-0.52, -0.85), (0.52, -0.85), (0.0, 0.9)], [(-0.25, 0.05), (0.45, 0.0)]],
        [[(-0.5, -0.55), (-0.45, -0.85), (0.5, -0.8), (0.1, 0.1), (0.05, 0.9)]],
    ],
    [
        [_arc(0, -0.45, 0.4, 0.43, 90, 450, 9), _arc(0, 0.43, 0.5, 0.46, -90, 270, 10)],
        [
            [
                *_arc(0, -0.45, 0.42, 0.42, -20, -270, 7),
                *_arc(0, 0.43, 0.46, 0.46, -70, 250, 9),
                (0.4, -0.55),
            ]
        ],
    ],
    [
        [[*_TOP_LOOP, (0.4, 0.0), (0.25, 0.9)]],
        [[*_TOP_LOOP, *_arc(-0.08, 0.1, 0.52, 0.78, 0, 140, 6)]],
        [[*_arc(-0.05, -0.45, 0.4, 0.4, -20, 340, 9), (0.38, -0.85), (0.38, 0.9)]],
    ],
]

_LETTERS: list[list[Glyph]] = [
    [[[(-0.6, 0.9), (0, -0.9), (0.6, 0.9)], [(-0.35, 0.25), (0.35, 0.25)]]],
    [
        [
            [(-0.5, -0.9), (-0.5, 0.9)],
            [(-0.5, -0.9), *_arc(-0.05, -0.47, 0.45, 0.43, -90, 90, 5), (-0.5, -0.04)],
            [(-0.5, -0.04), *_arc(-0.02, 0.44, 0.55, 0.46, -90, 90, 5), (-0.5, 0.9)],
        ]
    ],
    [[_arc(0.1, 0, 0.65, 0.88, -50, -310, 9)]],
    [[[(0.5, -0.9), (-0.5, -0.9), (-0.5, 0.9), (0.5, 0.9)], [(-0.5, 0), (0.35, 0)]]],
    [[[(0.5, -0.9), (-0.45, -0.9), (-0.45, 0.9)], [(-0.45, -0.05), (0.35, -0.05)]]],
    [[[(-0.55, -0.9), (-0.55, 0.9)], [(0.55, -0.9), (0.55, 0.9)], [(-0.55, 0), (0.55, 0)]]],
    [[[(-0.5, -0.9), (-0.5, 0.9)], [(0.55, -0.9), (-0.45, 0.05), (0.6, 0.9)]]],
    [[[(-0.45, -0.9), (-0.45, 0.88), (0.5, 0.88)]]],
    [[[(-0.7, 0.9), (-0.6, -0.9), (0, 0.4), (0.6, -0.9), (0.7, 0.9)]]],
    [[[(-0.55, 0.9), (-0.55, -0.9), (0.55, 0.9), (0.55, -0.9)]]],
    [
        [
            [(-0.5, -0.9), (-0.5, 0.9)],
            [(-0.5, -0.9), *_arc(-0.02, -0.45, 0.5, 0.45, -90, 90, 5), (-0.5, 0), (0.55, 0.9)],
        ]
    ],
    [[[(-0.65, -0.88), (0.65, -0.88)], [(0, -0.88), (0, 0.9)]]],
    [[[(-0.55, -0.9), *_arc(0, 0.3, 0.55, 0.58, 180, 0, 7), (0.55, -0.9)]]],
    [[[(-0.6, -0.9), (0.6, 0.9)], [(0.6, -0.9), (-0.6, 0.9)]]],
    [[[(-0.6, -0.9), (0, 0), (0.6, -0.9)], [(0, 0), (0, 0.9)]]],
    [[[(-0.55, -0.88), (0.55, -0.88), (-0.55, 0.88), (0.55, 0.88)]]],
]

GLYPHS = [*_DIGITS, *_LETTERS]
"""Ways to write each digit and letter, in the order of `vocabulary.CLASSES` after the shapes."""


def pen_distance(
    x: FloatArray, y: FloatArray, glyph: int, vigour: FloatArray, rng: np.random.Generator
) -> FloatArray:
    """Draw one digit or letter by hand, once for each image.

    Args:
        x: Horizontal coordinates (n, P) in the frame of the object, from -1 to 1.
        y: Vertical coordinates (n, P), downwards.
        glyph: Index into `GLYPHS`.
        vigour: How strongly each drawing is bent (n,), 0 to 1.
        rng: The random stream to draw from.

    Returns:
        Signed distances (n, P).
    """
    n = len(x)
    ways = GLYPHS[glyph]
    way = rng.integers(len(ways), size=n)
    slant = 0.22 * rng.standard_normal(n) * vigour
    bend = 0.10 * rng.standard_normal((n, 2, 3)) * vigour[:, None, None]
    width = 0.1 + 0.14 * rng.random((n, 1))
    result = np.empty_like(x)
    for i, strokes in enumerate(ways):
        rows = np.flatnonzero(way == i)
        if len(rows) == 0:
            continue
        distance = np.full_like(x[rows], np.inf)
        for stroke in strokes:
            px, py = np.array(stroke).T[:, None]
            powers = np.stack([px * px, px * py, py * py], -1)  # (1, S, 3)
            moved = np.stack([px - slant[rows, None] * py, py + 0 * slant[rows, None]], -1)
            moved += powers @ bend[rows].transpose(0, 2, 1)
            moved += 0.03 * rng.standard_normal(moved.shape) * vigour[rows, None, None]
            points = moved.astype(np.float32)
            distance = np.minimum(distance, polyline(x[rows], y[rows], points))
        result[rows] = distance - width[rows].astype(np.float32)
    return result
