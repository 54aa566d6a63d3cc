"""An approximate index of prompts: a short sketch of each, whose distances are never too long.

A sketch holds a vector's coordinates along a few orthonormal directions, and the length of the
rest. By the triangle inequality in the rest, two sketches are never further apart than their
vectors, so that neighbours of a vector are among those of its sketch; how many of these have to be
looked at depends on how much of the differences lies along the directions. Those of trained prompts
have a low rank; those of independent noise have none, and then the index finds little and says so.

FAISS's inverted lists (IVF) hold the sketches. Directions and lists are part of the server's state:
the same prompts give the same index in a resumed run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pfedmoap.server.row_store import Rows, blocks
from pfedmoap.wire.messages import Arrays

DIRECTIONS = 128
_SAMPLE = 4096
PER_LIST = 256
_MOST_LISTS = 2048
_TAUGHT = 64  # vectors a list from which its centre is learned
_BLOCK = 1024
_ROUNDING = 1e-5  # of a sketch's length, and of its squared distance from another
_HASHED = 2  # faiss.DirectMap.Hashtable: finds and removes a row without a pass over all


@dataclass(frozen=True)
class Effort:
    """How much an approximate search looks at.

    Attributes:
        probes: Lists.
        candidates: Sketches whose vectors are then compared.
    """

    probes: int = 16
    candidates: int = 256

    def doubled(self) -> "Effort":
        """Twice as much of both."""
        return Effort(2 * self.probes, 2 * self.candidates)


@dataclass(frozen=True)
class Directions:
    """What a sketch is made with.

    Attributes:
        centre: Taken off first, (d,).
        basis: Orthonormal rows, (s, d) with s at most `DIRECTIONS`.
        lists: Centres of the inverted lists, (l, s + 1).
    """

    centre: Tensor
    basis: Tensor
    lists: Tensor

    @classmethod
    def learn(cls, vectors: Rows, order: NDArray[np.int64], seed: int = 0) -> "Directions":
        """Learn them from vectors (n, d): the largest principal directions of a sample.

        Args:
            vectors: Finite, of any floating dtype, moderate in size.
            order: The order of rows on which nothing else has a say, (n,).
            seed: Draws the sample.
        """
        stream = torch.Generator().manual_seed(seed)
        rows = torch.from_numpy(order)
        drawn = torch.randperm(len(vectors), generator=stream)
        sample = vectors[rows[drawn[:_SAMPLE]]].float()
        centre = sample.mean(0)
        width = min(DIRECTIONS, *sample.shape)
        with torch.random.fork_rng(devices=[]):  # the decomposition draws from the global stream
            torch.manual_seed(seed)
            basis = torch.svd_lowrank(sample - centre, q=width, niter=2)[2].T
        basis = torch.linalg.qr(basis.double().T)[0].T.float().contiguous()
        unlisted = cls(centre, basis, torch.zeros(0, width + 1))
        count = lists_for(len(vectors))
        kmeans = faiss.Kmeans(width + 1, count, niter=10, seed=1 + seed, min_points_per_centroid=1)
        taught = rows[drawn[: _TAUGHT * count].sort().values]
        sketches = [unlisted.sketch(vectors[part]) for part in taught.split(_BLOCK)]
        kmeans.train(np.concatenate(sketches))
        return cls(centre, basis, torch.from_numpy(np.array(kmeans.centroids)))

    def sketch(self, vectors: Tensor) -> NDArray[np.float32]:
        """Sketch vectors (m, d), (m, s + 1).

        Sums are taken in float64, so that a vector's sketch hardly depends on its company.
        """
        centre, across = self._whole
        made = np.empty((len(vectors), len(self.basis) + 1), dtype=np.float32)
        for place in blocks(vectors):
            away = vectors[place] - centre  # in float64, as the centre is
            along = away @ across
            made[place, :-1] = along.numpy()
            rest = torch.linalg.vecdot(away, away) - torch.linalg.vecdot(along, along)
            made[place, -1] = rest.clamp_(min=0).sqrt_().numpy()
        return made

    @cached_property
    def _whole(self) -> tuple[Tensor, Tensor]:
        """Centre (d,) and directions (d, s) in float64."""
        return self.centre.double(), self.basis.double().T.contiguous()


def lists_for(count: int) -> int:
    """How many inverted lists suit so many vectors."""
    return max(1, min(_MOST_LISTS, count // PER_LIST))


class SketchIndex:
    """The sketches of rows 0 .. n-1, in inverted lists that are changed in place.

    Args:
        directions: What sketches are made with.
    """

    def __init__(self, directions: Directions) -> None:
        self.directions = directions
        lists = directions.lists.numpy()
        self._quantizer = faiss.IndexFlatL2(lists.shape[1])
        self._quantizer.add(lists)
        self._index = faiss.IndexIVFFlat(self._quantizer, lists.shape[1], len(lists))
        self._index.set_direct_map_type(_HASHED)

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def lists(self) -> int:
        """Number of inverted lists."""
        return int(self._index.nlist)

    def replace(self, rows: Sequence[int], vectors: Tensor) -> None:
        """Put rows' new vectors (len(rows), d) in the place of their old ones, if they had any."""
        ids = np.asarray(rows, dtype=np.int64)
        old = ids[ids < len(self)]
        if len(old):
            self._index.remove_ids(faiss.IDSelectorArray(old))
        self._index.add_with_ids(self.directions.sketch(vectors), ids)

    def fill(self, vectors: Rows) -> None:
        """Put all vectors (n, d) into an empty index."""
        for begin in range(0, len(vectors), _BLOCK):
            some = vectors[begin : begin + _BLOCK]
            self.replace(range(begin, begin + len(some)), some)

    def candidates(
        self, queries: Tensor, effort: Effort
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Rows whose sketches are nearest to those of queries (m, d); -1 where too few are found.

        Returns:
            Rows, (m, min(candidates, n)), the nearest sketches first, and for each a length that
            its vector's distance is not below.
        """
        count = min(effort.candidates, len(self))
        self._index.nprobe = min(effort.probes, self.lists)
        sketches = self.directions.sketch(queries)
        squared, found = self._index.search(sketches, count)
        ids: NDArray[np.int64] = found
        slack = _ROUNDING * np.linalg.norm(sketches, axis=1)[:, None]
        return ids, np.sqrt(squared.clip(min=0)) * (1 - _ROUNDING) - slack

    def within(self, query: Tensor, distance: float) -> NDArray[np.int64]:
        """All rows of which a sketch does not prove that they lie beyond a distance of a vector.

        Every sketch is looked at.

        Args:
            query: The vector, (d,).
            distance: The distance.
        """
        self._index.nprobe = self.lists
        sketch = self.directions.sketch(query[None])
        reach = distance * (1 + _ROUNDING) + 2 * _ROUNDING * float(np.linalg.norm(sketch))
        _, _, found = self._index.range_search(sketch, reach**2)
        rows: NDArray[np.int64] = found
        return rows

    def to_arrays(self) -> Arrays:
        """What the index was made with, by name; its content follows from the vectors."""
        made = self.directions
        return {"centre": made.centre, "basis": made.basis, "lists": made.lists}

    @classmethod
    def from_arrays(cls, arrays: Arrays, vectors: Rows) -> "SketchIndex":
        """Inverse of `to_arrays`, with the vectors (n, d) that it holds."""
        index = cls(Directions(arrays["centre"], arrays["basis"], arrays["lists"]))
        index.fill(vectors)
        return index
