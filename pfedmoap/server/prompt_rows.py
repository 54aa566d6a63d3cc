"""Prompts in one array that is overwritten in place, of which each version stays as it was made.

A version that was followed by another keeps what that one overwrote, and asks it for the rest (a
persistent array after Baker, 1978). So an update costs what it changes, and a plan that was made
from an earlier version never sees a later one. Only the newest version can be searched in place;
an earlier one is copied first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pfedmoap.errors import PFedMoAPError, ShapeError
from pfedmoap.wire.messages import ClientId

_FIRST_CAPACITY = 16


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
    for client in sorted(contexts):
        if not bool(torch.isfinite(contexts[client]).all()):
            raise PFedMoAPError(f"the prompt of client {client} is not finite")
    return kinds


@dataclass
class _Buffer:
    """What all versions share.

    Attributes:
        rows: (capacity, d); rows beyond the newest version's are not in use.
        ids: Whose prompt each row is, in the order of arrival, (capacity,); it only grows.
        row_of: The reverse.
    """

    rows: Tensor
    ids: NDArray[np.int64]
    row_of: dict[ClientId, int] = field(default_factory=dict)


class PromptRows:
    """One version of n flat prompts (d,).

    Args:
        prompts: Prompts by client, all of one shape and dtype; rows are in their order.

    Examples:
        >>> old = PromptRows({ClientId(4): torch.zeros(2)})
        >>> new = old.put({ClientId(4): torch.ones(2), ClientId(1): torch.ones(2)})
        >>> old.take([0]).tolist(), len(old), new.take([0, 1]).tolist(), new.ids
        ([[0.0, 0.0]], 1, [[1.0, 1.0], [1.0, 1.0]], array([4, 1]))
    """

    def __init__(self, prompts: Mapping[ClientId, Tensor]) -> None:
        first = next(iter(prompts.values())).flatten()
        room = first.new_empty(max(_FIRST_CAPACITY, len(prompts)), len(first), device="cpu")
        self._buffer = _Buffer(room, np.zeros(len(room), dtype=np.int64))
        self._count = 0
        self._overwritten: dict[int, Tensor] = {}
        self._next: PromptRows | None = None
        self._write(prompts)

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
        return self._buffer.rows.dtype

    @property
    def newest(self) -> bool:
        """Whether no other version was made from this one."""
        return self._next is None

    def take(self, rows: Sequence[int]) -> Tensor:
        """Copy some rows, (len(rows), d)."""
        found = self._buffer.rows[torch.tensor(rows, dtype=torch.int64)]
        for place, row in enumerate(rows if self._next is not None else ()):
            version: PromptRows | None = self
            while version is not None:
                if row in version._overwritten:
                    found[place] = version._overwritten[row]
                    break
                version = version._next
        return found

    def all(self) -> Tensor:
        """All rows, (n, d); of the newest version without a copy, so that nobody may keep it."""
        return self._buffer.rows[: self._count] if self.newest else self.take(range(self._count))

    def put(self, prompts: Mapping[ClientId, Tensor]) -> "PromptRows":
        """Make the next version, in which prompts replace or join the present ones."""
        if not self.newest:
            copied = PromptRows(
                dict(zip(map(ClientId, self.ids.tolist()), self.all(), strict=True))
            )
            return copied.put(prompts)
        made = PromptRows.__new__(PromptRows)
        made._buffer, made._count, made._next = self._buffer, self._count, None
        made._overwritten = {}
        rows = [row for client in prompts if (row := self.row(client)) is not None]
        self._overwritten = dict(zip(rows, self.take(rows), strict=True))
        self._next = made
        made._write(prompts)
        return made

    def _write(self, prompts: Mapping[ClientId, Tensor]) -> None:
        buffer = self._buffer
        new = [client for client in prompts if client not in buffer.row_of]
        buffer.row_of |= {client: self._count + place for place, client in enumerate(new)}
        before, self._count = self._count, self._count + len(new)
        if self._count > len(buffer.rows):
            grown = buffer.rows.new_empty(
                max(self._count, 2 * len(buffer.rows)), buffer.rows.shape[1]
            )
            grown[:before] = buffer.rows[:before]
            buffer.rows = grown
            buffer.ids = np.resize(buffer.ids, len(grown))
        buffer.ids[before : self._count] = new
        if prompts:
            rows = torch.tensor([buffer.row_of[client] for client in prompts])
            buffer.rows[rows] = torch.stack([p.detach().cpu().flatten() for p in prompts.values()])
