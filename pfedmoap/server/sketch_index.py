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

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pfedmoap.wire.messages import Arrays

DIRECTIONS = 128
_SAMPLE = 4096
_PER_LIST = 256
_BLOCK = 4096
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
    def learn(cls, vectors: Tensor, order: NDArray[np.int64], seed: int = 0) -> "Directions":
        """Learn them from vectors (n, d): the largest principal directions of a sample.

        Args:
            vectors: Finite, of any floating dtype, moderate in size.
            order: The order of rows on which nothing else has a say, (n,).
            seed: Draws the sample.
        """
        stream = torch.Generator().manual_seed(seed)
        rows = torch.from_numpy(order)
        drawn = rows[torch.randperm(len(vectors), generator=stream)[:_SAMPLE]]
        sample = vectors[drawn].float()
        centre = sample.mean(0)
        width = min(DIRECTIONS, *sample.shape)
        with torch.random.fork_rng(devices=[]):  # the decomposition draws from the global stream
            torch.manual_seed(seed)
            basis = torch.svd_lowrank(sample - centre, q=width, niter=2)[2].T
        basis = torch.linalg.qr(basis.double().T)[0].T.float().contiguous()
        unlisted = cls(centre, basis, torch.zeros(0, width + 1))
        count = max(1, min(4096, len(vectors) // _PER_LIST))
        kmeans = faiss.Kmeans(width + 1, count, niter=10, seed=1 + seed, min_points_per_centroid=1)
        blocks = (vectors[part] for part in rows[: _PER_LIST * count].split(_BLOCK))
        kmeans.train(np.concatenate([unlisted.sketch(block) for block in blocks]))
        return cls(centre, basis, torch.from_numpy(np.array(kmeans.centroids)))

    def sketch(self, vectors: Tensor) -> NDArray[np.float32]:
        """Sketch vectors (m, d), (m, s + 1).

        Sums are taken in float64, so that a vector's sketch hardly depends on its company.
        """
        away = vectors.double() - self.centre.double()
        along = away @ self.basis.double().T
        rest = (away.square().sum(1) - along.square().sum(1)).clamp(min=0).sqrt()
        return torch.cat([along, rest[:, None]], dim=1).float().numpy()


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
        for begin in range(0, len(ids), _BLOCK):
            part = slice(begin, begin + _BLOCK)
            self._index.add_with_ids(self.directions.sketch(vectors[part]), ids[part])

    def candidates(self, queries: Tensor, effort: Effort) -> NDArray[np.int64]:
        """Rows whose sketches are nearest to those of queries (m, d); -1 where too few are found.

        Returns:
            (m, min(candidates, n)).
        """
        count = min(effort.candidates, len(self))
        self._index.nprobe = min(effort.probes, self.lists)
        _, found = self._index.search(self.directions.sketch(queries), count)
        ids: NDArray[np.int64] = found
        return ids

    def to_arrays(self) -> Arrays:
        """What the index was made with, by name; its content follows from the vectors."""
        made = self.directions
        return {"centre": made.centre, "basis": made.basis, "lists": made.lists}

    @classmethod
    def from_arrays(cls, arrays: Arrays, vectors: Tensor) -> "SketchIndex":
        """Inverse of `to_arrays`, with the vectors (n, d) that it holds."""
        index = cls(Directions(arrays["centre"], arrays["basis"], arrays["lists"]))
        index.replace(range(len(vectors)), vectors)
        return index
