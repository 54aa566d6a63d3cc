"""The server's pool of prompt experts: every client's last prompt, and who is near whom."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from pfedmoap.config.server import PoolOptions
from pfedmoap.contract.server_rows import ServerRows
from pfedmoap.errors import PFedMoAPError, ShapeError
from pfedmoap.server import pool_arrays
from pfedmoap.server.expert import Expert, experts_of
from pfedmoap.server.pool_search import PoolSearch
from pfedmoap.server.prompt_rows import PromptRows, check_prompts
from pfedmoap.server.screening import Screened, Screener
from pfedmoap.wire.messages import Arrays, ClientId


class ExpertPool:
    """An immutable map from client to prompt with nearest-neighbour search.

    `put` returns a new pool, so a plan made from the pool of the last round can never see prompts
    of the running one; what it costs follows from what it changes, since both share one array (see
    `PromptRows`). The search is exact for any finite prompts, ties going to the lower client id;
    from ``options.exact_below`` entries on it is approximate (see `PoolSearch`).

    Args:
        contexts: Prompts by client, all of one shape (L, W).
        options: How the pool is searched; ``None`` for the usual way.

    Examples:
        >>> pool = ExpertPool({ClientId(i): torch.full((2, 3), float(i)) for i in range(5)})
        >>> [expert.client for expert in pool.nearest(ClientId(1), k=2)]
        [0, 2]
    """

    def __init__(
        self,
        contexts: Mapping[ClientId, Tensor] | None = None,
        options: PoolOptions | None = None,
    ) -> None:
        self._options = options or PoolOptions()
        self._rows: PromptRows | None = None
        self._shape: tuple[int, ...] = ()
        self._search: PoolSearch | None = None
        self._screener: Screener | None = None
        if contexts:
            self._join(contexts)
            self._settle()

    @classmethod
    def gathered(
        cls, parts: Iterable[Mapping[ClientId, Tensor]], options: PoolOptions | None = None
    ) -> "ExpertPool":
        """Make a pool of prompts that come in parts; none is kept longer than it takes to copy it.

        Args:
            parts: Prompts by client; a later one of a client counts.
            options: See above.
        """
        made = cls(options=options)
        for part in parts:
            made._join(part)
        made._settle()
        return made

    def __len__(self) -> int:
        return 0 if self._rows is None else len(self._rows)

    def __contains__(self, client: object) -> bool:
        return self._rows is not None and self._rows.row(client) is not None

    def __getitem__(self, client: ClientId) -> Tensor:
        """Copy a client's prompt, (L, W)."""
        row = None if self._rows is None else self._rows.row(client)
        if self._rows is None or row is None:
            raise KeyError(client)
        return self._rows.take([row]).view(self._shape)

    @cached_property
    def clients(self) -> tuple[ClientId, ...]:
        """Clients with an entry, in the order of their ids."""
        return () if self._rows is None else tuple(map(ClientId, sorted(self._rows.ids.tolist())))

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
        if self._rows is None or not contexts:
            return ExpertPool(contexts, self._options) if contexts else self
        check_prompts(contexts, (self._shape, self._rows.dtype))
        made = ExpertPool(options=self._options)
        search, self._search = self._search if self._rows.newest else None, None
        screener, self._screener = self._screener if self._rows.newest else None, None
        made._shape = self._shape
        made._rows = rows = self._rows.put(
            {client: contexts[client] for client in sorted(contexts)}
        )
        changed = sorted(row for client in contexts if (row := rows.row(client)) is not None)
        if search is not None:
            made._search = search.followed(rows.all(), changed, rows.ids)
        if screener is not None:
            screener.follow(rows.all(), changed, rows.ids)
            made._screener = screener
        made._settle()
        return made

    def without(self, client: ClientId) -> "ExpertPool":
        """Make a pool without one client's entry; it may have none."""
        if client not in self:
            return self
        left = pool_arrays.without_client(self.to_arrays(), client)
        return ExpertPool.from_arrays(left, self._options)

    def nearest(self, client: ClientId, k: int, hidden: Collection[ClientId] = ()) -> list[Expert]:
        """Find the ``k`` entries nearest to a client's own one; see `nearest_all`."""
        return self.nearest_all([client], k, {client: hidden})[client]

    def nearest_all(
        self,
        clients: Sequence[ClientId],
        k: int,
        hidden: Mapping[ClientId, Collection[ClientId]] | None = None,
    ) -> dict[ClientId, list[Expert]]:
        """Find the ``k`` entries nearest to each client's own one in l2 (pFedMoAP, Algorithm 1).

        Args:
            clients: Clients with an entry; none is served itself.
            k: Number of experts; fewer are returned where the pool holds fewer others.
            hidden: Clients whose entries are not served, by client; see `screened`.

        Returns:
            Experts by client, in the order of their distance, ties by id.

        Raises:
            PFedMoAPError: A client has no entry, or ``k`` is negative.
        """
        if not clients:
            return {}
        rows, own = self._own(clients)
        without = [
            {row, *self._rows_of((hidden or {}).get(client, ()))}
            for client, row in zip(clients, own, strict=True)
        ]
        found = self._found(rows.take(own), k, without)
        return dict(zip(clients, found, strict=True))

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
        if not bool(torch.isfinite(context).all()):
            raise PFedMoAPError("the prompt to search with is not finite")
        if self and tuple(context.shape) != self._shape:
            shape = tuple(context.shape)
            raise ShapeError(f"the prompt to search with has shape {shape}, expected {self._shape}")
        return self._found(context.reshape(1, -1), k, [self._rows_of(hidden)])[0]

    def random(
        self,
        client: ClientId,
        k: int,
        rng: np.random.Generator,
        hidden: Collection[ClientId] = (),
    ) -> list[Expert]:
        """Draw ``k`` other entries uniformly without replacement: the control for `nearest`."""
        rows, own = self._own([client])
        others = [other for other in self.clients if other != client and other not in hidden]
        chosen = rng.choice(len(others), size=min(k, len(others)), replace=False)
        drawn = self._rows_of([others[i] for i in chosen.tolist()])
        found = self._searched.exact.among(rows.take(own)[0], drawn)
        return experts_of(rows, self._shape, [found])[0]

    def screened(self, options: PoolOptions) -> Screened:
        """Decide whose entries are served at all; see `Screener`."""
        if self._rows is None or (options.copies is None and options.screen is None):
            return Screened()
        if options not in self._screened:
            self._screener = self._screener or Screener(self._rows.all(), self._rows.ids)
            self._screened[options] = self._screener.screened(options)
        return self._screened[options]

    @property
    def searched(self) -> Mapping[str, float]:
        """Recall of the approximate search in its last check, and whether it is in use (1 or 0).

        Empty where the pool is too small for it.
        """
        quality = None if self._search is None else self._search.quality
        if quality is None or self._search is None:
            return {}
        return {"recall": quality.recall, "approximate": float(self._search.approximate)}

    def to_arrays(self) -> Arrays:
        """All state as tensors; see `pool_arrays`, which has the prompts.

        Where the search is approximate, what it needs is there, too.
        """
        if self._rows is None:
            return {}
        search = {} if self._search is None else self._search.to_arrays()
        return {**pool_arrays.to_arrays(self._rows, self._shape), **search}

    def divided(self) -> tuple[Arrays, ServerRows | None]:
        """The same in two parts, of which clients' entries are read when they are asked for."""
        if self._rows is None:
            return {}, None
        search = {} if self._search is None else self._search.to_arrays()
        entries = pool_arrays.Entries(self._rows, self.clients, self._shape)
        own = ServerRows(pool_arrays.CLIENTS, entries)
        return {**pool_arrays.shared_arrays(self._rows), **search}, own

    @classmethod
    def from_arrays(cls, arrays: Arrays, options: PoolOptions | None = None) -> "ExpertPool":
        """Inverse of `to_arrays`."""
        made = cls(options=options)
        if pool_arrays.CLIENTS not in arrays:
            return made
        made._rows, made._shape = pool_arrays.from_arrays(arrays, made._options)
        made._searched.restore(arrays)
        made._settle()
        return made

    def _join(self, contexts: Mapping[ClientId, Tensor]) -> None:
        """Add prompts to a pool that is being made."""
        ordered = {client: contexts[client] for client in sorted(contexts)}
        if self._rows is None and ordered:
            self._shape = next(iter(check_prompts(ordered)))[0]
            self._rows = PromptRows(ordered, self._options)
        elif self._rows is not None and ordered:
            check_prompts(ordered, (self._shape, self._rows.dtype))
            self._rows = self._rows.put(ordered)

    def _settle(self) -> None:
        """Have the approximate search made where the pool is large enough for it."""
        if len(self) >= self._options.exact_below:
            self._searched.settle()

    @property
    def _searched(self) -> PoolSearch:
        """The search, made when it is first needed, and again after it went on to a newer pool."""
        if self._search is None and self._rows is not None:
            below, recall = self._options.exact_below, self._options.recall
            self._search = PoolSearch(self._rows.all(), self._rows.ids, below, recall)
        if self._search is None:
            raise PFedMoAPError("an empty pool has nothing to search")
        return self._search

    def _own(self, clients: Sequence[ClientId]) -> tuple[PromptRows, list[int]]:
        rows = self._rows
        found = [None if rows is None else rows.row(client) for client in clients]
        for client, row in zip(clients, found, strict=True):
            if row is None:
                raise PFedMoAPError(f"client {client} has no entry in the pool")
        return rows, found  # type: ignore[return-value]  # None was refused

    def _rows_of(self, clients: Collection[ClientId]) -> set[int]:
        rows = self._rows
        if rows is None:
            return set()
        return {row for client in clients if (row := rows.row(client)) is not None}

    def _found(self, queries: Tensor, k: int, without: Sequence[set[int]]) -> list[list[Expert]]:
        if k < 0:
            raise PFedMoAPError(f"k must be at least 0, got {k}")
        if self._rows is None:
            return [[] for _ in without]
        found = self._searched.nearest_all(queries, k, without)
        return experts_of(self._rows, self._shape, found)

    @cached_property
    def _screened(self) -> dict[PoolOptions, Screened]:
        return {}
