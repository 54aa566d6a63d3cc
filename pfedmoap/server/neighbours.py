"""Exact nearest neighbours of prompts in l2, whatever their size: FAISS finds, float64 decides."""

from collections.abc import Collection, Iterable, Sequence
from functools import cached_property
from math import frexp, sqrt

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pfedmoap.errors import PFedMoAPError
from pfedmoap.server.row_store import Rows, blocks, largest_of

_RELATIVE = 1e-3  # of a float32 sum of squares of a few 10^5 terms
_ABSOLUTE = 4 * float(np.finfo(np.float32).eps)  # of a coordinate, in units of the longest vector
_FAR = 1e15  # a query so many times larger than all vectors overflows the square of float32
_KEY_BYTES = 4
KEYS_BYTES = 2**31  # of keys that are kept; above it they are made for each search
STREAMED_NUMBERS = 2**26  # numbers of keys that are made at once then
_MORE = 16  # seen beside those that are wanted, so that the search seldom has to widen
_CHEAPER = 5  # a query is, among many
_SPARE = 2  # growth of the keys' array, so that vectors that join copy nothing most of the time

Found = tuple[list[int], list[float]]
"""Rows and their Euclidean distances, the nearest first."""


class Neighbours:
    """A search over n vectors; immutable but for `followed`.

    It looks at float32 differences from the first vector, divided by a power of two near the
    largest, so that no square overflows or vanishes; all queries of a plan are looked for in one
    call. What is found is ranked again by distances in float64, and the search widens until nothing
    that it has not seen could be nearer.

    Args:
        vectors: (n, d), n at least 1, of any floating dtype, finite.
        ids: What decides between equal distances, the lower first, (n,); ``None`` for the row.
    """

    def __init__(self, vectors: Rows, ids: NDArray[np.int64] | None = None) -> None:
        self._vectors = vectors.detach().cpu() if isinstance(vectors, Tensor) else vectors
        self._ids = np.arange(len(vectors)) if ids is None else ids
        self._spared: NDArray[np.float32] | None = None  # the array that holds the keys

    def nearest(self, query: Tensor, k: int, without: Collection[int] = ()) -> Found:
        """Find the ``k`` rows nearest to a vector (d,); see `nearest_all`."""
        return self.nearest_all(query[None], k, [without])[0]

    def nearest_all(
        self, queries: Tensor, k: int, without: Sequence[Collection[int]]
    ) -> list[Found]:
        """Find the ``k`` rows nearest to each of m vectors (m, d) in float64.

        Args:
            queries: Any finite vectors (m, d).
            k: Number of rows; fewer are returned where there are fewer.
            without: Rows to leave out, for each query.

        Returns:
            Rows and distances for each query, ties by id.

        Raises:
            PFedMoAPError: A distance is beyond float64.
        """
        count = len(self._vectors)
        found: list[Found] = [([], []) for _ in without]
        wanted = {
            place: 2 * (k + len(hidden)) + _MORE
            for place, hidden in enumerate(without)
            if min(k, count - len(hidden)) > 0
        }
        points = queries.detach().cpu().double().numpy()
        scaled = points / self._unit - self._first
        longest = np.abs(scaled).max(axis=1, initial=0.0)
        wanted |= {place: count for place in wanted if longest[place] > _FAR}
        while wanted:
            few = {place: number for place, number in wanted.items() if number < count}
            for place in wanted.keys() - few.keys():
                rows = (row for row in range(count) if row not in without[place])
                found[place] = self.among(queries[place], rows, k)
            wanted = {}
            if not few:
                break
            places, most = sorted(few), max(few.values())
            squared, ids = self._nearest_keys(scaled[places].astype(np.float32), most)
            for place, furthest, seen in zip(places, squared[:, -1], ids, strict=True):
                kept = [row for row in seen.tolist() if row not in without[place]]
                found[place] = self.among(queries[place], kept, k)
                error = _ABSOLUTE * (self._longest + sqrt(points.shape[1]) * longest[place])
                unseen = sqrt(float(furthest)) * (1 - _RELATIVE) - error
                if unseen <= found[place][1][-1] / self._unit:
                    wanted[place] = 4 * most
        return found

    def scan(self, queries: Tensor, k: int, without: Sequence[Collection[int]]) -> list[Found]:
        """Nearly the same as `nearest_all`, without an array of its own, for few queries.

        Of all rows, those that are nearest in float32 are ranked in float64; that no other row is
        nearer is not proved. It measures searches that find less.
        """
        first = torch.from_numpy(self._first)
        points = (queries.detach().cpu().double() / self._unit - first).float()
        apart = torch.empty(len(points), len(self._vectors))
        for some in blocks(self._vectors):
            block = torch.from_numpy(self._scaled(self._vectors[some]))
            apart[:, some] = block.square().sum(1) - 2 * points @ block.T
        found = []
        for place, hidden in enumerate(without):
            apart[place, list(hidden)] = torch.inf
            most = min(2 * k + _MORE, len(self._vectors) - len(hidden))
            rows = apart[place].topk(most, largest=False).indices.tolist() if most > 0 else []
            found.append(self.among(queries[place], rows, k))
        return found

    def among(self, query: Tensor, rows: Iterable[int], k: int | None = None) -> Found:
        """Rank given rows by their distances to a vector (d,); see `nearest_all`."""
        chosen = np.fromiter(rows, dtype=np.int64)
        point = query.detach().cpu().double().numpy()
        longest = float(np.abs(point).max(initial=0.0))
        found = []
        for part in np.array_split(chosen, 1 + len(chosen) // 64):
            near = self._vectors[torch.from_numpy(part)].double().numpy()
            unit = power_of_two(max(longest, float(np.abs(near).max(initial=0.0))))
            gap = near / unit - point / unit
            with np.errstate(over="ignore"):
                found.append(np.sqrt(np.square(gap).sum(axis=1)) * unit)
        distances = np.concatenate(found)
        if not np.isfinite(distances).all():
            raise PFedMoAPError("prompts are so far apart that their distance exceeds float64")
        return self._first_of(chosen, distances, k)

    def together(self, one: Found, other: Found, k: int) -> Found:
        """The ``k`` nearest of two sets of rows without a common one; see `nearest_all`."""
        rows = np.array([*one[0], *other[0]], dtype=np.int64)
        return self._first_of(rows, np.array([*one[1], *other[1]]), k)

    def _first_of(
        self, rows: NDArray[np.int64], distances: NDArray[np.float64], k: int | None
    ) -> Found:
        order = np.lexsort((self._ids[rows], distances))[:k]
        return rows[order].tolist(), distances[order].tolist()

    def followed(self, vectors: Rows, rows: Sequence[int], ids: NDArray[np.int64]) -> "Neighbours":
        """Make the search over other vectors of which only some are new; takes this one's array.

        This search must not be used any more.

        Args:
            vectors: (m, d) with m at least n.
            rows: Where they differ from those of this search, and all from n on.
            ids: See `Neighbours`, (m,).
        """
        made = Neighbours(vectors, ids)
        if "_longest" not in self.__dict__ or not len(rows):
            return made
        new = made._vectors[torch.tensor(rows)]
        largest = float(new.abs().max())
        if largest > _SPARE * self._unit or new.dtype != self._vectors[:0].dtype:
            return made  # the unit no longer fits: all keys are made again
        keys = self._scaled(new)
        made.__dict__ |= {
            "_unit": self._unit,
            "_first": self._first,
            "_largest": max(self._largest, largest),
            "_longest": max(self._longest, _longest(keys)),
        }
        if "_keys" in self.__dict__ and made._keeps_keys:
            array = self._keys if self._spared is None else self._spared
            if len(vectors) > len(array):
                array = np.empty((_SPARE * len(vectors), array.shape[1]), dtype=np.float32)
                array[: len(self._keys)] = self._keys
            array[np.asarray(rows)] = keys
            made._spared = array
            made.__dict__["_keys"] = array[: len(vectors)]
        return made

    def _nearest_keys(
        self, queries: NDArray[np.float32], count: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Squared distances and rows of the keys nearest to each query, both (m, count)."""
        if self._keeps_keys:
            return _nearest_keys(queries, self._keys, count)
        best = np.empty((len(queries), 0), dtype=np.float32)
        rows = np.empty((len(queries), 0), dtype=np.int64)
        for place in blocks(self._vectors, STREAMED_NUMBERS):
            keys = self._scaled(self._vectors[place])
            squared, ids = _nearest_keys(queries, keys, min(count, len(keys)))
            both, there = np.hstack([best, squared]), np.hstack([rows, ids + place.start])
            order = np.argsort(both, axis=1, kind="stable")[:, :count]
            best, rows = (np.take_along_axis(each, order, axis=1) for each in (both, there))
        return best, rows

    @property
    def _keeps_keys(self) -> bool:
        return len(self._vectors) * self._vectors.shape[1] * _KEY_BYTES <= KEYS_BYTES

    def _scaled(self, vectors: Rows) -> NDArray[np.float32]:
        keys = np.empty(tuple(vectors.shape), dtype=np.float32)
        for place in blocks(vectors):
            block = vectors[place].double().numpy() / self._unit
            keys[place] = np.subtract(block, self._first, out=block)
        return keys

    @cached_property
    def _first(self) -> NDArray[np.float64]:
        first: NDArray[np.float64] = self._vectors[:1][0].double().numpy() / self._unit
        return first

    @cached_property
    def _largest(self) -> float:
        return largest_of(self._vectors)

    @cached_property
    def _unit(self) -> float:
        return power_of_two(self._largest)

    @cached_property
    def _keys(self) -> NDArray[np.float32]:
        return self._scaled(self._vectors)

    @cached_property
    def _longest(self) -> float:
        if self._keeps_keys:
            return _longest(self._keys)
        return max(_longest(self._scaled(self._vectors[place])) for place in blocks(self._vectors))


def _nearest_keys(
    queries: NDArray[np.float32], keys: NDArray[np.float32], count: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Squared distances and rows of the keys nearest to each query, both (m, count).

    FAISS multiplies matrices from a number of queries on, which is several times faster than one
    query after the other: a few too few are filled up.
    """
    number, width = queries.shape
    least = -(-int(faiss.cvar.distance_compute_blas_threshold) // max(1, width))
    if number < least <= _CHEAPER * number:
        queries = np.concatenate([queries, np.zeros((least - number, width), dtype=np.float32)])
    squared, ids = faiss.knn(queries, keys, count)
    return squared[:number], ids[:number]


def _longest(keys: NDArray[np.float32]) -> float:
    parts = (keys[place].astype(np.float64) for place in blocks(torch.from_numpy(keys)))
    return max(float(np.linalg.norm(part, axis=1).max()) for part in parts)


def power_of_two(value: float) -> float:
    """The power of two above a value, by which float64 is divided without rounding; 1 for zero."""
    if value == 0:
        return 1.0
    return float(2.0 ** min(frexp(value)[1], 1023))
