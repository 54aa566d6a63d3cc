"""What lies within a distance of a short vector, or has anything there at all."""

import numpy as np
from numpy.typing import NDArray

_IN_TREE = 8  # coordinates: a tree is slow in many
FEW = 4096
"""Vectors that are compared one by one sooner than a tree is made of them."""

_ROUNDING = 1e-6  # of a float32 vector's length
_ROUNDED_SQUARE = 1e-5  # of its square, in products of matrices
_CROWD = 16  # where one in so many is near in the tree, a product with all is faster
_CROWD_OF_MANY = 128  # and so many for many vectors at once
_MOST = float(np.finfo(np.float32).max)
_SOME, _OTHERS = 256, 2**14  # rows of a product
_PAIRS = 2**17  # that are compared at once
_MIXER = 0x9E3779B97F4A7C15

Floats = NDArray[np.float32]
Numbers = NDArray[np.int64]


class NearTree:
    """Vectors whose first coordinates are in a k-d tree, the equal ones once.

    What is reported may be further away by the rounding of float32; nothing that is near is left
    out.

    Args:
        vectors: (m, s) float32, those that differ most in their first coordinates; kept, not
            copied. Their squares are finite.
    """

    def __init__(self, vectors: Floats) -> None:
        self._vectors = vectors
        self._squares = np.square(vectors).sum(axis=1)
        self._tree = None
        if len(vectors) > FEW:
            from scipy.spatial import cKDTree  # SciPy takes long to load

            self._point_of, first = _points(vectors)
            self._tree = cKDTree(vectors[first, :_IN_TREE].astype(np.float64))
            self._rows = np.argsort(self._point_of, kind="stable")
            self._ends = np.cumsum(np.bincount(self._point_of, minlength=len(first)))

    def of(self, vector: Floats, distance: float) -> Numbers:
        """Rows within a distance of a vector (s,), ascending."""
        square = float(np.square(vector, dtype=np.float64).sum())
        radius = distance + _ROUNDING * (2 * square**0.5 + distance)
        rows = self._in_tree(vector, radius)
        if rows is None:
            apart = self._squares - 2 * (self._vectors @ vector) + np.float32(square)
            limit = radius**2 + _ROUNDED_SQUARE * (self._squares + square)
            rows = np.flatnonzero(apart <= limit)
        gaps = self._vectors[rows].astype(np.float64) - vector
        near: Numbers = rows[np.square(gaps).sum(axis=1) <= radius**2]
        return near

    def accompanied(self, distance: float) -> NDArray[np.bool_]:
        """Whether each vector has another one within a distance, (m,)."""
        rows = np.arange(len(self._vectors))
        if self._tree is None:
            return meeting(self._vectors, rows, rows, distance)[0]
        found: NDArray[np.bool_] = np.bincount(self._point_of)[self._point_of] > 1
        unknown = np.flatnonzero(~found)
        longest_first = unknown[np.argsort(-self._squares[unknown], kind="stable")]
        parts = np.array_split(longest_first, 1 + len(unknown) // FEW)
        for some in parts:
            self._look_at_nearest(some, distance, found)
        left = np.concatenate([self._look_around(some, distance, found) for some in parts])
        found[left] |= meeting(self._vectors, left, rows, distance)[0]
        return found

    def _look_at_nearest(self, some: Numbers, distance: float, found: NDArray[np.bool_]) -> None:
        """Mark those of some rows that are near their nearest neighbour in the tree.

        Args:
            some: Rows, each a point of its own.
            distance: The distance.
            found: What is marked, (m,).
        """
        if not len(some) or self._tree is None:
            return
        radius = float(self._radii(some, distance).max())
        heads = self._vectors[some, :_IN_TREE].astype(np.float64)
        most = np.nextafter(radius, np.inf)
        apart, points = self._tree.query(heads, k=2, distance_upper_bound=most)
        for place in range(2):
            there = np.isfinite(apart[:, place])
            own, others = some[there], self._rows[self._ends[points[there, place]] - 1]
            self._mark(own, others, distance, found)

    def _look_around(self, some: Numbers, distance: float, found: NDArray[np.bool_]) -> Numbers:
        """Mark those that have company in the tree; return those around which it is too crowded."""
        some = some[~found[some]]
        if not len(some) or self._tree is None:
            return some
        radii, heads = self._radii(some, distance), self._vectors[some, :_IN_TREE]
        around = self._tree.query_ball_point(heads, radii, return_length=True)
        crowded = _CROWD_OF_MANY * around > len(self._ends)
        alone = around <= 1
        looked = np.flatnonzero(~crowded & ~alone)
        for part in np.split(
            looked, np.flatnonzero(np.diff(np.cumsum(around[looked]) // _PAIRS)) + 1
        ):
            lists = self._tree.query_ball_point(heads[part], radii[part])
            points = np.concatenate([np.zeros(0, dtype=np.int64), *lists]).astype(np.int64)
            others = self._rows[self._ends[points] - 1]
            self._mark(np.repeat(some[part], around[part]), others, distance, found)
        left: Numbers = some[crowded]
        return left

    def _mark(
        self, own: Numbers, others: Numbers, distance: float, found: NDArray[np.bool_]
    ) -> None:
        """Mark rows that are near another one, pair by pair."""
        gaps = self._vectors[own].astype(np.float64) - self._vectors[others]
        near = np.square(gaps).sum(axis=1) <= np.square(self._radii(own, distance))
        found[own[near & (own != others)]] = True

    def _radii(self, rows: Numbers, distance: float) -> NDArray[np.float64]:
        """How far from each row what is near may seem to be."""
        lengths = np.sqrt(self._squares[rows].astype(np.float64))
        radii: NDArray[np.float64] = distance + _ROUNDING * (2 * lengths + distance)
        return radii

    def _in_tree(self, vector: Floats, radius: float) -> Numbers | None:
        """Rows whose first coordinates are near, ascending; ``None`` where these are too many."""
        if self._tree is None:
            return None
        point = vector[:_IN_TREE].astype(np.float64)
        if _CROWD * int(self._tree.query_ball_point(point, radius, return_length=True)) > len(
            self._ends
        ):
            return None
        found = [
            self._rows[(self._ends[at - 1] if at else 0) : self._ends[at]]
            for at in self._tree.query_ball_point(point, radius)
        ]
        return np.sort(np.concatenate([np.zeros(0, dtype=np.int64), *found]))


def meeting(
    vectors: Floats, some: Numbers, others: Numbers, distance: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which of some rows have company among others, and which of these do, by comparing all pairs.

    Args:
        vectors: (m, s) float32; their squares are finite.
        some: Rows, each once.
        others: Rows, each once; a row does not keep itself company.
        distance: What counts as company; a bit more may count, too.

    Returns:
        Both (len(some),) and (len(others),).
    """
    one, two = np.zeros(len(some), dtype=bool), np.zeros(len(others), dtype=bool)
    square = np.float32(min(distance**2 * (1 + _ROUNDED_SQUARE), _MOST))
    for at in range(0, len(others), _OTHERS):
        right = slice(at, at + _OTHERS)
        columns = vectors[others[right]]
        widths = np.square(columns).sum(axis=1)
        for begin in range(0, len(some), _SOME):
            left = slice(begin, begin + _SOME)
            rows = vectors[some[left]]
            lengths = np.square(rows).sum(axis=1)[:, None] + widths
            apart = lengths - 2 * (rows @ columns.T)
            near = apart <= square + _ROUNDED_SQUARE * lengths
            near &= some[left, None] != others[right]
            one[left] |= near.any(axis=1)
            two[right] |= near.any(axis=0)
    return one, two


def _points(vectors: Floats) -> tuple[Numbers, Numbers]:
    """Number distinct vectors (m, s), and give the first row of each number.

    Equal ones have equal hashes; one whose hash is that of another one has a number of its own.
    """
    hashes = np.zeros(len(vectors), dtype=np.uint64)
    for column in vectors.T:
        bits = (column + np.float32(0)).view(np.uint32)  # 0.0 and -0.0 are equal
        hashes = (hashes ^ bits) * np.uint64(_MIXER)
        hashes ^= hashes >> np.uint64(29)
    _, first, point_of = np.unique(hashes, return_index=True, return_inverse=True)
    same = first[point_of]
    alone = [
        begin + np.flatnonzero((some != vectors[same[begin : begin + len(some)]]).any(axis=1))
        for begin in range(0, len(vectors), _OTHERS)
        if len(some := vectors[begin : begin + _OTHERS])
    ]
    others = np.concatenate([np.zeros(0, dtype=np.int64), *alone])
    point_of[others] = len(first) + np.arange(len(others))
    return point_of, np.concatenate([first, others])
