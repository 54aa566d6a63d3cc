"""The server's pool of prompt experts: every client's last prompt, searched with FAISS."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pfedmoap.errors import PFedMoAPError, ShapeError
from pfedmoap.wire.messages import Arrays, ClientId


@dataclass(frozen=True)
class Expert:
    """One pool entry as it is served.

    Attributes:
        client: Whose prompt it is.
        context: The prompt, (L, W).
        distance: Euclidean distance to the query client's own entry.
    """

    client: ClientId
    context: Tensor
    distance: float


class ExpertPool:
    """An immutable map from client to prompt with exact nearest-neighbour search.

    `put` returns a new pool, so a plan made from the pool of the last round can never see prompts
    of the running one. The index is flat and exact, built on the first search; neighbours are
    re-ranked in float64, and ties go to the lower client id.

    Args:
        contexts: Prompts by client, all of one shape (L, W).

    Example:
        >>> pool = ExpertPool({ClientId(i): torch.full((2, 3), float(i)) for i in range(5)})
        >>> [expert.client for expert in pool.nearest(ClientId(1), k=2)]
        [0, 2]
    """

    def __init__(self, contexts: Mapping[ClientId, Tensor] | None = None) -> None:
        contexts = contexts or {}
        self._contexts = {client: contexts[client] for client in sorted(contexts)}
        shapes = {tuple(context.shape) for context in self._contexts.values()}
        if len(shapes) > 1:
            raise ShapeError(f"a pool holds prompts of one shape, got {sorted(shapes)}")

    def __len__(self) -> int:
        return len(self._contexts)

    def __contains__(self, client: object) -> bool:
        return client in self._contexts

    def __getitem__(self, client: ClientId) -> Tensor:
        return self._contexts[client]

    @property
    def clients(self) -> tuple[ClientId, ...]:
        """Clients with an entry, in the order of their ids."""
        return tuple(self._contexts)

    def put(self, contexts: Mapping[ClientId, Tensor]) -> "ExpertPool":
        """Make a pool in which ``contexts`` replace or join the present entries.

        Args:
            contexts: Admitted prompts by client, each (L, W) and finite.

        Returns:
            The new pool; this one is unchanged.

        Raises:
            PFedMoAPError: A prompt is not finite: FAISS would silently never return it.
        """
        for client, context in contexts.items():
            if not bool(torch.isfinite(context).all()):
                raise PFedMoAPError(f"the prompt of client {client} is not finite")
        return ExpertPool({**self._contexts, **contexts})

    def nearest(self, client: ClientId, k: int) -> list[Expert]:
        """Find the ``k`` entries nearest to a client's own one in l2 (pFedMoAP, Algorithm 1).

        Args:
            client: A client with an entry; it is never served itself.
            k: Number of experts; fewer are returned where the pool holds fewer others.

        Returns:
            Experts in the order of their distance, ties by id.

        Raises:
            PFedMoAPError: The client has no entry.
        """
        if client not in self._contexts:
            raise PFedMoAPError(f"client {client} has no entry in the pool")
        return self._search(self._keys[self._row[client]], k, without=client)

    def near(self, context: Tensor, k: int) -> list[Expert]:
        """Find the ``k`` entries nearest to any prompt (L, W), e.g. for a client without an entry.

        Returns:
            Experts in the order of their distance, ties by id; none from an empty pool.

        Raises:
            PFedMoAPError: The prompt is not finite.
        """
        if not bool(torch.isfinite(context).all()):
            raise PFedMoAPError("the prompt to search with is not finite")
        return self._search(context.detach().cpu().float().flatten().numpy(), k) if self else []

    def _search(
        self, query: NDArray[np.float32], k: int, without: ClientId | None = None
    ) -> list[Expert]:
        excluded = 0 if without is None else 1
        k = min(k, len(self) - excluded)
        if k <= 0:
            return []
        wanted = k + excluded  # the excluded client comes back too
        while True:
            found, ids = self._index.search(query[None], min(wanted, len(self)))
            ranked = self._exact(without, query, (i for i in ids[0].tolist() if i >= 0))
            # Widen while an unseen entry could tie with the last one served.
            seen_all = wanted >= len(self)
            if seen_all or found[0, -1] > ranked[k - 1].distance ** 2 * (1 + 1e-4) + 1e-6:
                return ranked[:k]
            wanted *= 2

    def random(self, client: ClientId, k: int, rng: np.random.Generator) -> list[Expert]:
        """Draw ``k`` other entries uniformly without replacement: the control for `nearest`."""
        others = [other for other in self._contexts if other != client]
        chosen = rng.choice(len(others), size=min(k, len(others)), replace=False)
        query = self._keys[self._row[client]]
        return self._exact(client, query, (others[i] for i in chosen.tolist()))

    def to_arrays(self) -> Arrays:
        """All state as tensors: ``pool.clients`` (n,) and ``pool.contexts`` (n, L, W)."""
        if not self._contexts:
            return {}
        return {
            "pool.clients": torch.tensor(list(self._contexts)),
            "pool.contexts": torch.stack(list(self._contexts.values())),
        }

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> "ExpertPool":
        """Inverse of `to_arrays`."""
        if "pool.clients" not in arrays:
            return cls()
        clients = arrays["pool.clients"].tolist()
        return cls(dict(zip(map(ClientId, clients), arrays["pool.contexts"], strict=True)))

    def _exact(
        self, without: ClientId | None, query: NDArray[np.float32], ids: Iterable[int]
    ) -> list[Expert]:
        experts = []
        for other in map(ClientId, ids):
            if other != without:
                gap = self._keys[self._row[other]].astype(np.float64) - query
                distance = float(np.sqrt(gap @ gap))
                experts.append(Expert(other, self._contexts[other], distance))
        return sorted(experts, key=lambda expert: (expert.distance, expert.client))

    @cached_property
    def _row(self) -> dict[ClientId, int]:
        return {client: row for row, client in enumerate(self._contexts)}

    @cached_property
    def _keys(self) -> NDArray[np.float32]:
        rows = [context.detach().cpu().float().flatten() for context in self._contexts.values()]
        return torch.stack(rows).numpy()

    @cached_property
    def _index(self) -> faiss.IndexIDMap2:
        index = faiss.IndexIDMap2(faiss.IndexFlatL2(self._keys.shape[1]))
        index.add_with_ids(self._keys, np.array(list(self._contexts), dtype=np.int64))
        return index
