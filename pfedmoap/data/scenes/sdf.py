"""Signed-distance primitives: negative inside, positive outside, vectorised over pixels."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]  # Any: numpy's stubs widen float32 in mixed arithmetic
Points = Sequence[tuple[float, float]]


def circle(x: FloatArray, y: FloatArray, cx: float, cy: float, radius: float) -> FloatArray:
    """Distance to a disc; ``x`` and ``y`` have one shape, which the result shares."""
    distance: FloatArray = np.hypot(x - cx, y - cy) - radius
    return distance


def ellipse(x: FloatArray, y: FloatArray, rx: float, ry: float) -> FloatArray:
    """Approximate distance to a filled ellipse around the origin."""
    distance: FloatArray = (np.hypot(x / rx, y / ry) - 1) * min(rx, ry)
    return distance


def box(x: FloatArray, y: FloatArray, cx: float, cy: float, hw: float, hh: float) -> FloatArray:
    """Approximate distance to a rectangle with half sizes ``hw`` and ``hh``."""
    distance: FloatArray = np.maximum(np.abs(x - cx) - hw, np.abs(y - cy) - hh)
    return distance


def union(*parts: FloatArray) -> FloatArray:
    """Distance to whichever part is nearest."""
    result = parts[0]
    for part in parts[1:]:
        result = np.minimum(result, part)
    return result


def minus(whole: FloatArray, hole: FloatArray) -> FloatArray:
    """Distance to ``whole`` with ``hole`` cut out."""
    return np.maximum(whole, -hole)


def polygon(x: FloatArray, y: FloatArray, points: Points) -> FloatArray:
    """Exact distance to a simple polygon, convex or not.

    Args:
        x: Horizontal coordinates, any shape.
        y: Vertical coordinates, the same shape.
        points: The corners in order.

    Returns:
        Signed distances of the shape of ``x``.
    """
    nearest = np.full_like(x, np.inf)
    inside = np.zeros(x.shape, dtype=bool)
    for (ax, ay), (bx, by) in zip(points, [points[-1], *points[:-1]], strict=True):
        ex, ey, wx, wy = bx - ax, by - ay, x - ax, y - ay
        along = np.clip((wx * ex + wy * ey) / (ex * ex + ey * ey), 0, 1)
        nearest = np.minimum(nearest, (wx - ex * along) ** 2 + (wy - ey * along) ** 2)
        if ay != by:
            crosses = (ay > y) != (by > y)
            inside ^= crosses & (wx < ex * wy / ey)
    distance = np.sqrt(nearest)
    return np.where(inside, -distance, distance)


def polyline(x: FloatArray, y: FloatArray, points: FloatArray) -> FloatArray:
    """Unsigned distance to a chain of segments that differs from image to image.

    Args:
        x: Horizontal coordinates (n, P).
        y: Vertical coordinates (n, P).
        points: The chain of each image (n, S, 2).

    Returns:
        Distances (n, P).
    """
    nearest = np.full_like(x, np.inf)
    for i in range(points.shape[1] - 1):
        ax, ay = points[:, i, :1], points[:, i, 1:]
        ex, ey = points[:, i + 1, :1] - ax, points[:, i + 1, 1:] - ay
        wx, wy = x - ax, y - ay
        along = np.clip((wx * ex + wy * ey) / (ex * ex + ey * ey + 1e-9), 0, 1)
        wx -= ex * along
        wy -= ey * along
        np.minimum(nearest, wx * wx + wy * wy, out=nearest)
    return np.sqrt(nearest)


def regular(sides: int, radius: float = 1.0, turn: float = -90.0) -> list[tuple[float, float]]:
    """Corners of a regular polygon; ``turn`` (degrees) is where the first one stands."""
    angles = [math.radians(turn + 360 * i / sides) for i in range(sides)]
    return [(radius * math.cos(a), radius * math.sin(a)) for a in angles]


def starred(spikes: int, inner: float, outer: float = 1.0) -> list[tuple[float, float]]:
    """Corners of a star whose first spike points up."""
    tips = regular(spikes, outer)
    dents = regular(spikes, inner, -90 + 180 / spikes)
    return [corner for pair in zip(tips, dents, strict=True) for corner in pair]
