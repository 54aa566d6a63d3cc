"""Which of many vectors may have another one within a distance, kept up to date as they change.

A vector's sketch is its coordinates along a few orthonormal directions, in which no distance is
longer than it is: whatever is near is near in the sketches, wherever somebody puts it. Along the
directions in which vectors vary most, little else is. Vectors that have company are few in usual
pools, and they alone are compared in float64. An update looks for the company of what it changes.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pfedmoap.server.near_tree import FEW, Floats, NearTree, Numbers, meeting
from pfedmoap.server.neighbours import power_of_two
from pfedmoap.server.row_store import BLOCK_NUMBERS, Rows

_DIRECTIONS = 64
_SAMPLE = 512  # vectors from which directions are learned
_GROWN = 4  # times as many vectors: directions are learned anew
_ROOM = 1.25  # the distance that is looked for, in the distance that is asked for
_LARGEST = 2.0**40  # of numbers in units of the sample: squares of sketches are float32
_SHARE = 32  # one in so many may have changed since the tree was made


class Company:
    """The vectors that may have another one within a distance, and which ones these are.

    Args:
        vectors: (n, d), n at least 1, finite.
    """

    _tree: NearTree | None
    _scale: float
    _reach: float
    _sketches: Floats
    _accompanied: NDArray[np.bool_]
    _loose: NDArray[np.bool_]
    _of: Numbers
    _known: NDArray[np.float64]

    def __init__(self, vectors: Rows) -> None:
        self._vectors = vectors
        self._changed: set[int] = set()
        self._learn()

    def follow(self, vectors: Rows, changed: Sequence[int]) -> None:
        """Go on to other vectors, which are read when they are needed.

        Args:
            vectors: (m, d) with m at least n.
            changed: Where they differ, and all rows from n on.
        """
        self._vectors = vectors
        self._changed.update(changed)

    def groups(self, distance: float, order: NDArray[np.int64]) -> list[list[int]]:
        """Group vectors that lie within a distance of the first one of their group.

        Each vector joins the first group that it is near to, or opens one.

        Args:
            distance: A distance in float64; 0 groups equal vectors alone.
            order: Decides which vector comes first: the one with the lowest number, (n,).

        Returns:
            Groups of two rows or more, each in that order, in the order of their first rows.
        """
        self._reaching(distance)
        rows = np.flatnonzero(self._accompanied[: len(self._vectors)])
        rows = rows[np.argsort(order[rows])]
        sketches = self._sketches[rows]
        near, free, groups = NearTree(sketches), np.ones(len(rows), dtype=bool), []
        for place, row in enumerate(rows.tolist()):
            if not free[place]:
                continue
            others = near.of(sketches[place], self._reach / self._scale)
            if len(others) == 1:
                self._accompanied[row] = False  # whoever was near has changed
            others = others[(others > place) & free[others]]
            joined = others[self._apart(row, rows[others]) <= distance]
            if len(joined):
                free[joined] = False
                groups.append([row, *rows[joined].tolist()])
        return groups

    def _apart(self, row: int, others: Numbers) -> NDArray[np.float64]:
        """Distances of some rows from one; what is known of unchanged ones is not read again."""
        unknown = others[self._of[others] != row]
        if len(unknown):
            point = self._vectors[torch.tensor([row])].double()
            for part in np.array_split(unknown, 1 + len(unknown) // 64):
                gaps = self._vectors[torch.from_numpy(part)].double() - point
                largest = gaps.abs().amax(1)  # in its units no square vanishes or overflows
                gaps /= torch.where(largest > 0, largest, 1.0)[:, None]
                self._known[part] = (gaps.norm(dim=1) * largest).numpy()
            self._of[unknown] = row
        return self._known[others]

    def _reaching(self, distance: float) -> None:
        """Bring all up to date for a distance."""
        count = len(self._vectors)
        changed = np.array(sorted(self._changed), dtype=np.int64)
        self._changed.clear()
        if count > _GROWN * self._learned_from:
            self._learn()
        elif len(changed):
            self._grow(count)
            self._loose[changed] = True
            self._sketch(changed)
        near_enough = distance <= self._reach <= 2 * _ROOM * distance
        many = int(self._loose[:count].sum()) > max(FEW, count // _SHARE)
        if self._tree is None or many or not near_enough:
            self._tree = NearTree(self._sketches[:count])
            self._loose[:] = False
        if near_enough:
            self._accompanied[changed] = False
            self._look_around(changed)
        else:
            self._reach = _ROOM * distance
            self._accompanied[:count] = self._tree.accompanied(self._reach / self._scale)

    def _look_around(self, rows: Numbers) -> None:
        """Mark rows that have company, and whoever keeps it."""
        reach = self._reach / self._scale
        for row in rows.tolist():
            near = self._tree.of(self._sketches[row], reach) if self._tree else rows[:0]
            found = near[~self._loose[near] & (near != row)]
            self._accompanied[found] = True
            self._accompanied[row] |= len(found) > 0
        loose = np.flatnonzero(self._loose[: len(self._vectors)])
        one, two = meeting(self._sketches, rows, loose, reach)
        self._accompanied[rows] |= one
        self._accompanied[loose] |= two

    def _learn(self) -> None:
        """Learn directions, and sketch all vectors along them."""
        count = len(self._vectors)
        self._learned_from, self._reach = count, -1.0
        sample = self._vectors[:: -(-count // _SAMPLE)].double()
        self._scale = power_of_two(float(sample.abs().max()) if sample.numel() else 0.0)
        sample = sample / self._scale
        self._centre = sample.mean(0)
        self._across = _directions(sample - self._centre)
        self._tree = None
        self._sketches = np.zeros((0, self._across.shape[1]), dtype=np.float32)
        self._accompanied = np.zeros(0, dtype=np.bool_)
        self._loose = np.zeros(0, dtype=np.bool_)  # changed since the tree was made
        self._of = np.zeros(0, dtype=np.int64)  # from which row the distance is known
        self._known = np.zeros(0)
        self._grow(count)
        self._sketch(np.arange(count))

    def _grow(self, count: int) -> None:
        """Make room for so many vectors."""
        before = len(self._loose)
        if count <= before:
            return
        room = count if not before else max(count, 2 * before)
        self._sketches = _longer(self._sketches, room)
        self._accompanied = _longer(self._accompanied, room)
        self._loose = _longer(self._loose, room)
        self._of, self._known = _longer(self._of, room), _longer(self._known, room)
        self._of[before:] = -1

    def _sketch(self, rows: Numbers) -> None:
        """Sketch rows as they are now, and forget what was known of them."""
        self._of[rows] = -1
        self._of[np.isin(self._of, rows)] = -1
        step = max(1, BLOCK_NUMBERS // max(1, self._vectors.shape[1]))
        for begin in range(0, len(rows), step):
            some = rows[begin : begin + step]
            vectors = self._vectors[torch.from_numpy(some)].double()
            larger = float(vectors.abs().max()) / self._scale / _LARGEST if vectors.numel() else 0
            if larger > 1:
                unit = power_of_two(larger)
                self._scale, self._centre = self._scale * unit, self._centre / unit
                self._sketches /= np.float32(unit)
                self._tree = None
            away = vectors.div_(self._scale).sub_(self._centre)
            self._sketches[some] = (away @ self._across).numpy()


def _longer(array: NDArray[Any], room: int) -> NDArray[Any]:  # of any numbers
    """The same with room at the end, zeros."""
    longer = np.zeros((room, *array.shape[1:]), dtype=array.dtype)
    longer[: len(array)] = array
    return longer


def _directions(sample: Tensor) -> Tensor:
    """Orthonormal directions along which centred vectors (n, d) vary most, the first one most.

    Returns:
        (d, s).
    """
    count = min(_DIRECTIONS, *sample.shape)
    values, ways = torch.linalg.eigh(sample @ sample.T)
    values, ways = values.flip(0)[:count], ways.flip(1)[:, :count]
    ways = ways / values.clamp(min=1e-20 * float(values[0])).sqrt()
    basis: Tensor = torch.linalg.qr((sample.T @ ways).nan_to_num(0, 0, 0))[0]
    return basis
