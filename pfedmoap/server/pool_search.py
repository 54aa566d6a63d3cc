"""Which search a pool of prompts uses: the exact one, or above a size the approximate one.

The approximate search is measured against the exact one on some of the pool's own prompts when it
is built, and after every `CHECK_EVERY` updates. Where it finds too little it looks at more, and at
last gives way to the exact search, until the pool has doubled.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pfedmoap.server.neighbours import Found, Neighbours
from pfedmoap.server.row_store import Rows
from pfedmoap.server.sketch_index import Directions, Effort, SketchIndex, lists_for
from pfedmoap.wire.messages import Arrays

CHECK_EVERY = 50
CHECKED = 32
"""Prompts that a check looks for."""

DEPTH = 10
"""Neighbours of each of them."""

_MORE = 16  # vectors that are read beside the wanted number before a proof is sought
COMPARED = 4096  # vectors a query that a check reads before it reads all of them instead
_OUTGROWN = 4  # so many times more lists would suit a pool than its index has
_MOST = 8  # at most one in so many prompts is a candidate; then the exact search is as good
_PREFIX = "pool.search."


@dataclass(frozen=True)
class Quality:
    """What is known of the approximate search.

    Attributes:
        effort: What it looks at.
        recall: Share of the true `DEPTH` nearest that it found in the last check.
        updates: Updates since then.
        failed_at: Size of the pool when it last found too little however much it looked at; 0 if
            it never did.
    """

    effort: Effort = field(default_factory=Effort)
    recall: float = 1.0
    updates: int = 0
    failed_at: int = 0


class PoolSearch:
    """The search over one version of a pool; only the newest may be used.

    Args:
        vectors: (n, d), n at least 1.
        ids: What decides between equal distances, (n,).
        exact_below: Size from which on the search is approximate.
        recall: What the approximate search must reach.
    """

    def __init__(
        self, vectors: Rows, ids: NDArray[np.int64], exact_below: int, recall: float
    ) -> None:
        self.exact = Neighbours(vectors, ids)
        self.quality: Quality | None = None
        self._vectors, self._ids = vectors, ids
        self._below, self._wanted = exact_below, recall
        self.sketches: SketchIndex | None = None

    @property
    def approximate(self) -> bool:
        """Whether the approximate search is in use."""
        return self.sketches is not None

    def nearest_all(
        self, queries: Tensor, k: int, without: Sequence[Collection[int]]
    ) -> list[Found]:
        """See `Neighbours.nearest_all`; the approximate search may miss some."""
        if self.sketches is None or self.quality is None:
            return self.exact.nearest_all(queries, k, without)
        effort = self.quality.effort
        effort = replace(effort, candidates=max(effort.candidates, 2 * k))
        found: list[Found] = []
        nearest, bounds = self.sketches.candidates(queries, effort)
        for place, (near, least) in enumerate(zip(nearest, bounds, strict=True)):
            served = np.array([row >= 0 and row not in without[place] for row in near.tolist()])
            rows, least = near[served], least[served]
            if len(rows) < min(k, len(self._vectors) - len(without[place])):
                found += self.exact.scan(queries[place : place + 1], k, [without[place]])
            else:
                found.append(self._ranked(queries[place], k, rows, least))
        return found

    def _ranked(
        self, query: Tensor, k: int, rows: NDArray[np.int64], least: NDArray[np.float64]
    ) -> Found:
        """The ``k`` nearest of some rows, by exact distances.

        Rows are in the order of what their distances are not below: once that is beyond the
        ``k``-th nearest, no later one can be nearer, and it is not read.
        """
        found: Found = ([], [])
        begin, some = 0, k + _MORE
        while begin < len(rows) and k:
            if len(found[0]) == k and least[begin] > found[1][-1]:
                break
            part = self.exact.among(query, rows[begin : begin + some], k)
            found = self.exact.together(found, part, k)
            begin, some = begin + some, 2 * some
        return found

    def followed(self, vectors: Rows, rows: Sequence[int], ids: NDArray[np.int64]) -> "PoolSearch":
        """Make the search after an update; this one must not be used any more.

        Args:
            vectors: The prompts then, (m, d) with m at least n.
            rows: Those that are new.
            ids: See above, (m,).
        """
        made = PoolSearch(vectors, ids, self._below, self._wanted)
        made.exact = self.exact.followed(vectors, rows, ids)
        made.sketches, made.quality = self.sketches, self.quality
        if made.sketches is not None and made.quality is not None:
            made.sketches.replace(rows, vectors[torch.tensor(rows, dtype=torch.int64)])
            made.quality = replace(made.quality, updates=made.quality.updates + 1)
        made.settle()
        return made

    def settle(self) -> None:
        """Choose the search, and check the approximate one where it is new or due.

        An index of which the pool has outgrown the lists is made again.
        """
        count = len(self._vectors)
        failed_at = 0 if self.quality is None else self.quality.failed_at
        if count < max(self._below, 2 * failed_at, 1):
            return
        due = self.quality is None or self.quality.updates >= CHECK_EVERY
        if self.sketches is not None and not due:
            return
        if self.sketches is None or lists_for(count) >= _OUTGROWN * self.sketches.lists:
            self.sketches = SketchIndex(Directions.learn(self._vectors, np.argsort(self._ids)))
            self.sketches.fill(self._vectors)
            self.quality = Quality(failed_at=failed_at)
        self.quality = self._checked(self.quality or Quality())
        if self.quality.recall < self._wanted:
            self.sketches = None

    def _checked(self, quality: Quality) -> Quality:
        """Measure the recall, and widen the search until it is enough or costs too much."""
        count = len(self._vectors)
        stream = torch.Generator().manual_seed(count)
        drawn = torch.randperm(count, generator=stream)[:CHECKED].numpy()
        rows = np.argsort(self._ids)[drawn].tolist()
        queries, alone = self._vectors[torch.tensor(rows)], [{row} for row in rows]
        effort, known = quality.effort, None
        while True:
            self.quality = Quality(effort)
            found = self.nearest_all(queries, DEPTH, alone)
            known = known or self.truth(queries, alone, found)
            hits = sum(len(one & {*other}) for one, (other, _) in zip(known, found, strict=True))
            recall = hits / max(1, sum(map(len, known)))
            if recall >= self._wanted:
                return Quality(effort, recall)
            if 2 * effort.candidates > count // _MOST:
                return Quality(effort, recall, failed_at=count)
            effort = effort.doubled()

    def truth(
        self, queries: Tensor, alone: Sequence[set[int]], found: Sequence[Found]
    ) -> list[set[int]]:
        """The true `DEPTH` nearest of each query, given some that are near.

        What is nearer than the last of these has a sketch that is nearer, too; where that leaves
        too many to compare, all rows are read.
        """
        near = []
        if self.sketches is not None:
            for query, (_, distances) in zip(queries, found, strict=True):
                near.append(self.sketches.within(query, distances[-1] if distances else 0.0))
                if len(near[-1]) > max(COMPARED, len(self._vectors) // 64):
                    break
        if len(near) < len(queries):
            return [{*rows} for rows, _ in self.exact.scan(queries, DEPTH, alone)]
        return [
            {*self.exact.among(query, (row for row in rows.tolist() if row not in own), DEPTH)[0]}
            for query, rows, own in zip(queries, near, alone, strict=True)
        ]

    def to_arrays(self) -> Arrays:
        """What a resumed run needs to search as this one, by name; nothing for a small pool."""
        if self.quality is None:
            return {}
        known = self.quality
        counts = (known.effort.probes, known.effort.candidates, known.updates, known.failed_at)
        arrays = {
            "counts": torch.tensor(counts),
            "recall": torch.tensor(known.recall, dtype=torch.float64),
        }
        made = {} if self.sketches is None else self.sketches.to_arrays()
        return {_PREFIX + name: array for name, array in {**arrays, **made}.items()}

    def restore(self, arrays: Arrays) -> None:
        """Go on from what `to_arrays` returned, among other arrays."""
        own = {n.removeprefix(_PREFIX): a for n, a in arrays.items() if n.startswith(_PREFIX)}
        if not own:
            return
        probes, candidates, updates, failed_at = own["counts"].tolist()
        effort = Effort(probes, candidates)
        self.quality = Quality(effort, float(own["recall"]), updates, failed_at)
        if "basis" in own:
            self.sketches = SketchIndex.from_arrays(own, self._vectors)
