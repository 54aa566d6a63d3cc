"""What lies within a distance of a short vector, or has anything there at all."""

import numpy as np
from numpy.typing import NDArray

_IN_TREE = 8  # coordinates: a tree is slow in many
FEW = 4096
"""Vectors that are compared one by one sooner than a tree is made of them."""

_ROUNDING = 1e-6  # of a float32 vector's length
_ROUNDED_SQUARE = 1e-5  # of its square, in products of matrices
_NEIGHBOURS = (2, 16)  # looked at of each vector before it is compared with all
_CROWD = 16  # where one in so many is near in the tree, a product with all is faster
_MOST = float(np.finfo(np.float32).max)
_SOME, _OTHERS = 256, 2**14  # rows of a product
_MIXER = np.random.default_rng(0).integers(2**63, 2**64, _IN_TREE, dtype=np.uint64)

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

            heads = np.ascontiguousarray(vectors[:, :_IN_TREE], dtype=np.float64)
            self._point_of, first = _points(heads)
            self._tree = cKDTree(heads[first])
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
        found = np.bincount(self._point_of)[self._point_of] > 1
        unknown = np.flatnonzero(~found)
        for count in _NEIGHBOURS:
            longest_first = unknown[np.argsort(-self._squares[unknown], kind="stable")]
            parts = np.array_split(longest_first, 1 + len(unknown) // FEW)
            left = [self._look_at(some, count, distance, found) for some in parts]
            unknown = np.concatenate(left)
        found[unknown] |= meeting(self._vectors, unknown, rows, distance)[0]
        return found

    def _look_at(
        self, some: Numbers, count: int, distance: float, found: NDArray[np.bool_]
    ) -> Numbers:
        """Mark those that have company among a few neighbours; return those that may have it yet.

        Args:
            some: Rows, each a point of its own.
            count: Neighbours to look at, with itself.
            distance: The distance.
            found: What is marked, (m,).
        """
        if not len(some) or self._tree is None:
            return some
        longest = float(self._squares[some].max()) ** 0.5
        radius = distance + _ROUNDING * (2 * longest + distance)
        own = self._vectors[some].astype(np.float64)
        apart, points = self._tree.query(
            own[:, :_IN_TREE], k=count, distance_upper_bound=np.nextafter(radius, np.inf)
        )
        there = np.isfinite(apart)
        rows = self._rows[self._ends[np.where(there, points, 0)] - 1]
        other = there & (rows != some[:, None])
        gaps = np.square(self._vectors[rows] - own[:, None]).sum(axis=2)
        near = (other & (gaps <= radius**2)).any(axis=1)
        found[some[near]] = True
        left: Numbers = some[~near & there[:, -1]]
        return left

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


def _points(heads: NDArray[np.float64]) -> tuple[Numbers, Numbers]:
    """Number distinct vectors (m, s), and give the first row of each number.

    Equal ones have equal hashes; one whose hash is that of another one has a number of its own.
    """
    hashes = (heads + 0.0).view(np.uint64) @ _MIXER  # 0.0 and -0.0 are equal
    _, first, point_of = np.unique(hashes, return_index=True, return_inverse=True)
    alone = np.flatnonzero((heads != heads[first[point_of]]).any(axis=1))
    point_of[alone] = len(first) + np.arange(len(alone))
    return point_of, np.concatenate([first, alone])
