"""The signed distances against hand-computed and brute-force truths."""

import numpy as np
import pytest

from pfedmoap.data.scenes.glyphs import GLYPHS, pen_distance
from pfedmoap.data.scenes.sdf import box, circle, minus, polygon, polyline, regular, starred, union
from pfedmoap.data.scenes.shapes import SHAPE_DISTANCES
from pfedmoap.data.scenes.vocabulary import CLASSES, SHAPES

AXIS = np.linspace(-1.2, 1.2, 41)
X, Y = (grid.reshape(1, -1) for grid in np.meshgrid(AXIS, AXIS))


def test_circle_and_box_by_hand() -> None:
    x, y = np.array([[0.0, 3.0]]), np.array([[0.0, 4.0]])
    np.testing.assert_allclose(circle(x, y, 0, 0, 1), [[-1, 4]])
    np.testing.assert_allclose(box(x, y, 0, 0, 1, 2), [[-1, 2]])


def test_union_and_minus_are_set_operations() -> None:
    a, b = circle(X, Y, 0, 0, 0.7), box(X, Y, 0.5, 0, 0.5, 0.2)
    np.testing.assert_array_equal(union(a, b) < 0, (a < 0) | (b < 0))
    np.testing.assert_array_equal(minus(a, b) < 0, (a < 0) & (b > 0))


def test_square_polygon_is_the_square() -> None:
    corners = [(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)]
    np.testing.assert_array_equal(polygon(X, Y, corners) < 0, box(X, Y, 0, 0, 0.5, 0.5) < 0)


def test_polygon_distance_is_the_distance_to_its_border() -> None:
    corners = starred(5, 0.4)
    border = np.concatenate(
        [np.linspace(a, b, 200) for a, b in zip(corners, [*corners[1:], corners[0]], strict=True)]
    )
    points = np.stack([X[0], Y[0]], -1)
    nearest = np.linalg.norm(points[:, None] - border[None], axis=-1).min(1)
    np.testing.assert_allclose(np.abs(polygon(X, Y, corners))[0], nearest, atol=0.01)


def test_polyline_of_one_segment_by_hand() -> None:
    x, y = np.array([[0.0, 2.0, -1.0]]), np.array([[1.0, 0.0, 0.0]])
    segment = np.array([[[0.0, 0.0], [1.0, 0.0]]])
    np.testing.assert_allclose(polyline(x, y, segment), [[1, 1, 1]])


def test_regular_polygon_has_its_corners_on_the_circle() -> None:
    np.testing.assert_allclose(np.hypot(*np.array(regular(7, 0.8)).T), 0.8)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_fits_its_frame(shape: str) -> None:
    inside = SHAPE_DISTANCES[shape](X, Y) < 0
    assert 0.05 < inside.mean() < 0.6
    assert not inside[np.maximum(np.abs(X), np.abs(Y)) > 1.1].any()


def test_shapes_and_glyphs_cover_all_classes() -> None:
    assert list(SHAPE_DISTANCES) == SHAPES
    assert len(SHAPES) + len(GLYPHS) == len(CLASSES) == 58


def test_pen_strokes_differ_from_image_to_image_but_not_from_run_to_run() -> None:
    x, y, vigour = np.repeat(X, 6, 0), np.repeat(Y, 6, 0), np.ones(6)
    first, again = (pen_distance(x, y, 3, vigour, np.random.default_rng(0)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert len(np.unique((first < 0).sum(1))) > 1
