"""Prompts in one store that is overwritten in place, of which each version stays as it was made.

A version that was followed by another keeps what that one overwrote, and asks it for the rest (a
persistent array after Baker, 1978). So an update costs what it changes, and a plan that was made
from an earlier version never sees a later one. Only the newest version can be searched in place;
an earlier one is copied first.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pfedmoap.config.server import PoolOptions
from pfedmoap.errors import PFedMoAPError, ShapeError
from pfedmoap.server.row_store import BLOCK_NUMBERS, Packed, Rows, RowStore, StoredRows, blocks
from pfedmoap.wire.messages import ClientId

Kind = tuple[tuple[int, ...], torch.dtype]


def check_prompts(contexts: Mapping[ClientId, Tensor], known: Kind | None = None) -> set[Kind]:
    """Refuse prompts that a pool cannot hold together; returns the one shape and dtype.

    Args:
        contexts: Prompts by client, at least one.
        known: Those of the prompts that are there already.
    """
    kinds = {(tuple(context.shape), context.dtype) for context in contexts.values()}
    kinds |= set() if known is None else {known}
    if len(shapes := {shape for shape, _ in kinds}) > 1:
        raise ShapeError(f"a pool holds prompts of one shape, got {sorted(shapes)}")
    if len(kinds) > 1 or not all(kind.is_floating_point for _, kind in kinds):
        found = ", ".join(sorted(str(kind) for _, kind in kinds))
        raise ShapeError(f"a pool holds prompts of one floating-point dtype, got {found}")
    for clients, stacked in _stacks(contexts):
        if not bool(torch.isfinite(stacked).all()):
            wrong = min(c for c in clients if not bool(torch.isfinite(contexts[c]).all()))
            raise PFedMoAPError(f"the prompt of client {wrong} is not finite")
    return kinds


def empty_store(width: int, dtype: torch.dtype, options: PoolOptions) -> RowStore:
    """Make a store for prompts of ``width`` numbers, as a pool's options say."""
    half, mapped = options.precision == "float16", options.rows == "mapped"
    return RowStore(width, dtype, half=half, mapped=mapped)


@dataclass
class _Buffer:
    """What all versions share.

    Attributes:
        store: The rows; those beyond the newest version's are not in use.
        ids: Whose prompt each row is, in the order of arrival, (capacity,); it only grows.
        row_of: The reverse.
    """

    store: RowStore
    ids: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    row_of: dict[ClientId, int] = field(default_factory=dict)


class PromptRows:
    """One version of n flat prompts (d,).

    Args:
        prompts: Prompts by client, all of one shape and dtype, at least one; rows are in their
            order.
        options: How they are kept; ``None`` as they come, in memory.

    Examples:
        >>> old = PromptRows({ClientId(4): torch.zeros(2)})
        >>> new = old.put({ClientId(4): torch.ones(2), ClientId(1): torch.ones(2)})
        >>> old.take([0]).tolist(), len(old), new.take([0, 1]).tolist(), new.ids
        ([[0.0, 0.0]], 1, [[1.0, 1.0], [1.0, 1.0]], array([4, 1]))
    """

    _overwritten: dict[int, Packed]
    _next: "PromptRows | None"

    def __init__(
        self, prompts: Mapping[ClientId, Tensor], options: PoolOptions | None = None
    ) -> None:
        first = next(iter(prompts.values()))
        store = empty_store(first.numel(), first.dtype, options or PoolOptions())
        self._start(_Buffer(store))
        self._write(prompts)

    @classmethod
    def of(cls, clients: Sequence[ClientId], packed: Packed, store: RowStore) -> "PromptRows":
        """Make the first version of prompts as an empty store keeps them, in their order."""
        made = cls.__new__(cls)
        made._start(_Buffer(store))
        made._join(clients)
        for part in blocks(packed.values):
            exponents = None if packed.exponents is None else packed.exponents[part]
            rows = torch.arange(part.start, part.stop)
            store.write(rows, Packed(packed.values[part], exponents))
        return made

    def __len__(self) -> int:
        return self._count

    @property
    def ids(self) -> NDArray[np.int64]:
        """Whose prompt each row is, (n,), in the order of arrival."""
        return self._buffer.ids[: self._count]

    def row(self, client: object) -> int | None:
        """The row of a client; ``None`` if it has none in this version."""
        row = self._buffer.row_of.get(client, self._count)  # type: ignore[call-overload]  # any key
        return None if row >= self._count else int(row)

    @property
    def dtype(self) -> torch.dtype:
        """Of all prompts."""
        return self._buffer.store.dtype

    @property
    def half(self) -> bool:
        """Whether they are kept in 16 bits; see `Packed`."""
        return self._buffer.store.half

    @property
    def newest(self) -> bool:
        """Whether no other version was made from this one."""
        return self._next is None

    def take(self, rows: Sequence[int]) -> Tensor:
        """Copy some rows, (len(rows), d)."""
        return self.packed(rows).unpacked(self.dtype)

    def packed(self, rows: Sequence[int]) -> Packed:
        """Copy some rows as they are kept."""
        found = self._buffer.store.packed(torch.tensor(rows, dtype=torch.int64))
        for place, row in enumerate(rows if self._next is not None else ()):
            version: PromptRows | None = self
            while version is not None:
                if row in version._overwritten:
                    old = version._overwritten[row]
                    found.values[place] = old.values[0]
                    if found.exponents is not None and old.exponents is not None:
                        found.exponents[place] = old.exponents[0]
                    break
                version = version._next
        return found

    def all(self) -> Rows:
        """All rows, (n, d); of the newest version without a copy, so that nobody may keep it."""
        if self.newest:
            return StoredRows(self._buffer.store, self._count)
        return self.take(range(self._count))

    def put(self, prompts: Mapping[ClientId, Tensor]) -> "PromptRows":
        """Make the next version, in which prompts replace or join the present ones."""
        before = self._buffer.store
        if not self.newest:
            store = RowStore(before.width, before.dtype, half=before.half, mapped=before.mapped)
            clients = list(map(ClientId, self.ids.tolist()))
            return PromptRows.of(clients, self.packed(range(len(self))), store).put(prompts)
        made = PromptRows.__new__(PromptRows)
        made._start(self._buffer, self._count)
        rows = [row for client in prompts if (row := self.row(client)) is not None]
        old = before.packed(torch.tensor(rows, dtype=torch.int64))
        self._overwritten = {
            row: Packed(
                old.values[place : place + 1],
                None if old.exponents is None else old.exponents[place : place + 1],
            )
            for place, row in enumerate(rows)
        }
        self._next = made
        made._write(prompts)
        return made

    def _start(self, buffer: _Buffer, count: int = 0) -> None:
        self._buffer, self._count = buffer, count
        self._overwritten, self._next = {}, None

    def _join(self, clients: Iterable[ClientId]) -> None:
        """Give those that have none a row."""
        buffer = self._buffer
        new = [client for client in clients if client not in buffer.row_of]
        buffer.row_of |= {client: self._count + place for place, client in enumerate(new)}
        before, self._count = self._count, self._count + len(new)
        buffer.store.reserve(self._count)
        if self._count > len(buffer.ids):
            buffer.ids = np.resize(buffer.ids, max(self._count, 2 * before))
        buffer.ids[before : self._count] = new

    def _write(self, prompts: Mapping[ClientId, Tensor]) -> None:
        self._join(prompts)
        store = self._buffer.store
        for clients, stacked in _stacks(prompts):
            rows = torch.tensor([self._buffer.row_of[client] for client in clients])
            store.write(rows, Packed.of(stacked, half=store.half))


def _stacks(prompts: Mapping[ClientId, Tensor]) -> Iterator[tuple[list[ClientId], Tensor]]:
    """Prompts in stacks (m, d), with their clients, in their order."""
    rest, width = iter(prompts), max((p.numel() for p in islice(prompts.values(), 1)), default=1)
    while clients := list(islice(rest, max(1, BLOCK_NUMBERS // max(1, width)))):
        yield clients, torch.stack([prompts[c].detach().cpu().flatten() for c in clients])
