"""Exact nearest neighbours of prompts in l2, whatever their size: FAISS finds, float64 decides."""

from collections.abc import Collection, Iterable
from functools import cached_property
from math import frexp, sqrt

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pfedmoap.errors import PFedMoAPError

_RELATIVE = 1e-3  # of a float32 sum of squares of a few 10^5 terms
_ABSOLUTE = 4 * float(np.finfo(np.float32).eps)  # of a coordinate, in units of the longest vector
_FAR = 1e15  # a query so many times larger than all vectors overflows the square of float32


class Neighbours:
    """An index of n vectors; immutable.

    The index holds float32 differences from the first vector, divided by a power of two near the
    largest, so that no square overflows or vanishes. What it finds is ranked again by distances in
    float64, and the search widens until nothing that it has not seen could be nearer.

    Args:
        vectors: (n, d), n at least 1, of any floating dtype, finite.
    """

    def __init__(self, vectors: Tensor) -> None:
        self._vectors = vectors.detach().cpu()

    def nearest(
        self, query: Tensor, k: int, without: Collection[int] = ()
    ) -> tuple[list[int], list[float]]:
        """Find the ``k`` rows nearest to a vector (d,) in float64.

        Args:
            query: Any finite vector (d,).
            k: Number of rows; fewer are returned where there are fewer.
            without: Rows to leave out.

        Returns:
            Rows and their Euclidean distances, in the order of distances, ties by row.

        Raises:
            PFedMoAPError: A distance is beyond float64.
        """
        count = len(self._vectors)
        k = min(k, count - len(without))
        if k <= 0:
            return [], []
        scaled = query.detach().cpu().double().numpy() / self._unit - self._first
        longest = float(np.abs(scaled).max(initial=0.0))
        wanted = count if longest > _FAR else k + len(without)
        while True:
            if wanted >= count:
                return self.among(query, (row for row in range(count) if row not in without), k)
            squared, ids = self._index.search(scaled.astype(np.float32)[None], wanted)
            seen = [row for row in ids[0].tolist() if row not in without]
            rows, distances = self.among(query, seen, k)
            error = _ABSOLUTE * (self._longest + sqrt(len(scaled)) * longest)
            unseen = sqrt(float(squared[0, -1])) * (1 - _RELATIVE) - error
            if unseen > distances[-1] / self._unit:
                return rows, distances
            wanted *= 2

    def among(
        self, query: Tensor, rows: Iterable[int], k: int | None = None
    ) -> tuple[list[int], list[float]]:
        """Rank given rows by their distances to a vector (d,); see `nearest`."""
        chosen = np.fromiter(rows, dtype=np.int64)
        point = query.detach().cpu().double().numpy()
        unit = _power_of_two(max(self._largest, float(np.abs(point).max(initial=0.0))))
        found = []
        for part in np.array_split(chosen, 1 + len(chosen) // 256):
            gap = self._vectors[torch.from_numpy(part)].double().numpy() / unit - point / unit
            found.append(np.sqrt(np.square(gap).sum(axis=1)))
        with np.errstate(over="ignore"):
            distances = np.concatenate(found) * unit
        if not np.isfinite(distances).all():
            raise PFedMoAPError("prompts are so far apart that their distance exceeds float64")
        order = np.lexsort((chosen, distances))[:k]
        return chosen[order].tolist(), distances[order].tolist()

    @cached_property
    def _first(self) -> NDArray[np.float64]:
        first: NDArray[np.float64] = self._vectors[0].double().numpy() / self._unit
        return first

    @cached_property
    def _largest(self) -> float:
        return float(self._vectors.abs().max()) if self._vectors.numel() else 0.0

    @cached_property
    def _unit(self) -> float:
        return _power_of_two(self._largest)

    @cached_property
    def _keys(self) -> NDArray[np.float32]:
        rows = [
            (row.double().numpy() / self._unit - self._first).astype(np.float32)
            for row in self._vectors
        ]
        return np.stack(rows)

    @cached_property
    def _longest(self) -> float:
        return float(np.linalg.norm(self._keys.astype(np.float64), axis=1).max())

    @cached_property
    def _index(self) -> faiss.IndexFlatL2:
        index = faiss.IndexFlatL2(self._keys.shape[1])
        index.add(self._keys)
        return index


def _power_of_two(value: float) -> float:
    """The power of two above a value, by which float64 is divided without rounding; 1 for zero."""
    if value == 0:
        return 1.0
    return float(2.0 ** min(frexp(value)[1], 1023))
