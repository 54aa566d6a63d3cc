"""The server's pool of prompt experts: every client's last prompt, and who is near whom."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from pfedmoap.config.server import PoolOptions
from pfedmoap.errors import PFedMoAPError, ShapeError
from pfedmoap.server.neighbours import Neighbours
from pfedmoap.server.screening import Screened, screen
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
    of the running one. The index (`Neighbours`) is exact for any finite prompts and built on the
    first search; ties go to the lower client id.

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
        kinds = {context.dtype for context in self._contexts.values()}
        if len(kinds) > 1 or not all(kind.is_floating_point for kind in kinds):
            found = ", ".join(sorted(map(str, kinds)))
            raise ShapeError(f"a pool holds prompts of one floating-point dtype, got {found}")
        for client, context in self._contexts.items():
            if not bool(torch.isfinite(context).all()):
                raise PFedMoAPError(f"the prompt of client {client} is not finite")

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
            PFedMoAPError: A prompt is not finite.
            ShapeError: One has another shape or dtype than the others.
        """
        return ExpertPool({**self._contexts, **contexts})

    def without(self, client: ClientId) -> "ExpertPool":
        """Make a pool without one client's entry; it may have none."""
        return ExpertPool({other: c for other, c in self._contexts.items() if other != client})

    def nearest(self, client: ClientId, k: int, hidden: Collection[ClientId] = ()) -> list[Expert]:
        """Find the ``k`` entries nearest to a client's own one in l2 (pFedMoAP, Algorithm 1).

        Args:
            client: A client with an entry; it is never served itself.
            k: Number of experts; fewer are returned where the pool holds fewer others.
            hidden: Clients whose entries are not served; see `screened`.

        Returns:
            Experts in the order of their distance, ties by id.

        Raises:
            PFedMoAPError: The client has no entry, or ``k`` is negative.
        """
        return self.near(self._own(client), k, {*hidden, client})

    def near(self, context: Tensor, k: int, hidden: Collection[ClientId] = ()) -> list[Expert]:
        """Find the ``k`` entries nearest to any prompt (L, W), e.g. for a client without an entry.

        Args:
            context: A finite prompt of the pool's shape.
            k: Number of experts.
            hidden: Clients whose entries are not served.

        Returns:
            Experts in the order of their distance, ties by id; none from an empty pool.

        Raises:
            PFedMoAPError: The prompt is not finite, or ``k`` is negative, or a distance exceeds
                float64.
            ShapeError: The prompt has another shape than those of the pool.
        """
        if k < 0:
            raise PFedMoAPError(f"k must be at least 0, got {k}")
        if not bool(torch.isfinite(context).all()):
            raise PFedMoAPError("the prompt to search with is not finite")
        if not self:
            return []
        shape = tuple(next(iter(self._contexts.values())).shape)
        if tuple(context.shape) != shape:
            raise ShapeError(
                f"the prompt to search with has shape {tuple(context.shape)}, expected {shape}"
            )
        return self._experts(*self._index.nearest(context.flatten(), k, self._rows(hidden)))

    def random(
        self,
        client: ClientId,
        k: int,
        rng: np.random.Generator,
        hidden: Collection[ClientId] = (),
    ) -> list[Expert]:
        """Draw ``k`` other entries uniformly without replacement: the control for `nearest`."""
        own = self._own(client)
        others = [other for other in self._contexts if other != client and other not in hidden]
        chosen = rng.choice(len(others), size=min(k, len(others)), replace=False)
        rows = [self._row[others[i]] for i in chosen.tolist()]
        return self._experts(*self._index.among(own.flatten(), rows))

    def screened(self, options: PoolOptions) -> Screened:
        """Decide whose entries are served at all; see `screen`."""
        if not self:
            return Screened()
        if options not in self._screened:
            self._screened[options] = screen(self.clients, self._vectors, options)
        return self._screened[options]

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

    def _own(self, client: ClientId) -> Tensor:
        if client not in self._contexts:
            raise PFedMoAPError(f"client {client} has no entry in the pool")
        return self._contexts[client]

    def _rows(self, clients: Collection[ClientId]) -> set[int]:
        return {self._row[client] for client in clients if client in self._row}

    def _experts(self, rows: Sequence[int], distances: Sequence[float]) -> list[Expert]:
        clients = self.clients
        return [
            Expert(clients[row], self._contexts[clients[row]], distance)
            for row, distance in zip(rows, distances, strict=True)
        ]

    @cached_property
    def _row(self) -> dict[ClientId, int]:
        return {client: row for row, client in enumerate(self._contexts)}

    @cached_property
    def _vectors(self) -> Tensor:
        """All entries, (n, L W), in the order of ids."""
        return torch.stack([one.detach().cpu().flatten() for one in self._contexts.values()])

    @cached_property
    def _index(self) -> Neighbours:
        return Neighbours(self._vectors)

    @cached_property
    def _screened(self) -> dict[PoolOptions, Screened]:
        return {}
