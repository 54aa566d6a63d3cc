"""Who of a pool is served to others: neither copies of one prompt twice, nor what lies far outside.

Everybody keeps an own entry, which says who is near whom; being screened only means not being
served. Nothing here can tell an honest client from a hostile one that behaves like it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pfedmoap.config.server import PoolOptions
from pfedmoap.server.company import Company
from pfedmoap.server.neighbours import power_of_two
from pfedmoap.server.robust_limits import robust_limit
from pfedmoap.server.row_store import BLOCK_NUMBERS, Rows
from pfedmoap.wire.messages import ClientId

MEASURED = 1024
"""Entries that the units of a pool are measured with."""

_OFTEN = 8  # one prompt in so many is measured before distances are taken from another centre
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Screened:
    """What a pool's options leave to be served.

    Attributes:
        reasons: Why a client's prompt is served to nobody, by client.
        alike: Clients with nearly the same prompt as a client, by client; without those that have
            none. They are not served to each other either: such an expert says nothing new.
    """

    reasons: Mapping[ClientId, str] = field(default_factory=dict)
    alike: Mapping[ClientId, frozenset[ClientId]] = field(default_factory=dict)

    def hidden_from(self, client: ClientId | None) -> frozenset[ClientId]:
        """Whose prompts are not served to a client; ``None`` for one without an entry."""
        alike = self.alike.get(client, frozenset()) if client is not None else frozenset()
        return frozenset(self.reasons) | alike


@dataclass(frozen=True)
class Units:
    """What is usual among prompts.

    Attributes:
        scale: A power of two near the largest number.
        centre: The coordinate median, (d,) float64, divided by it.
        away: Distances from it, (m,) float64, divided by it.
    """

    scale: float
    centre: Tensor
    away: Tensor

    @classmethod
    def of(cls, prompts: Tensor) -> "Units":
        """Measure prompts, (m, d)."""
        scale = power_of_two(float(prompts.abs().max()))
        rows = prompts.double() / scale
        middle = (len(rows) - 1) // 2
        centre = torch.empty(rows.shape[1], dtype=torch.float64)
        for part in torch.arange(len(centre)).split(256):
            ordered = np.partition(
                rows[:, part].T.numpy(), middle, axis=1
            )  # torch's takes twice as long
            centre[part] = torch.from_numpy(ordered[:, middle].copy())
        return cls(scale, centre, (rows - centre).norm(dim=1))

    @property
    def usual(self) -> float:
        """Median distance, divided by the scale."""
        return float(self.away.quantile(0.5))


class Screener:
    """Decides who of a pool is served; what it costs follows from what changes.

    Lengths are in units of the median distance of prompts from their coordinate median (the lower
    one of each coordinate), which hostile clients below one half cannot set. In a pool of more than
    `MEASURED` entries it is that of so many, drawn by a hash of their ids.

    Args:
        vectors: Flat prompts, (n, d), n at least 1, finite.
        ids: Whose they are, (n,).
    """

    def __init__(self, vectors: Rows, ids: NDArray[np.int64]) -> None:
        self._vectors, self._ids = vectors, ids
        self._changed: set[int] = set()
        self._units: tuple[list[int], Units] | None = None
        self._company: Company | None = None
        self._lengths: _Lengths | None = None

    def follow(self, vectors: Rows, changed: Sequence[int], ids: NDArray[np.int64]) -> None:
        """Go on to the next version of the pool.

        Args:
            vectors: Its prompts, (m, d) with m at least n.
            changed: Rows that are new or that changed.
            ids: Whose they are, (m,).
        """
        self._vectors, self._ids = vectors, ids
        self._changed.update(changed)
        if self._company is not None:
            self._company.follow(vectors, changed)
        if self._lengths is not None:
            self._lengths.follow(vectors, changed)

    def screened(self, options: PoolOptions) -> Screened:
        """Decide who is served.

        Prompts within ``copies`` units of that of a lower client id are one group with it, of which
        the lowest is served. What is further from the coordinate median than `robust_limit` with
        the multiple ``screen`` is served to nobody.

        Args:
            options: The pool's options.

        Returns:
            The decision; everybody is served where the pool has fewer than two entries.
        """
        if len(self._vectors) < 2:
            return Screened()
        units = self._measured()
        reasons: dict[ClientId, str] = {}
        if options.screen is not None:
            limit = robust_limit(units.away, options.screen)
            self._lengths = self._lengths or _Lengths(self._vectors)
            for row, away in self._lengths.beyond(units, limit):
                reasons[self._client(row)] = (
                    f"its prompt is {away / limit:.3g} times as far from the others as "
                    "pool.screen admits"
                )
        alike: dict[ClientId, frozenset[ClientId]] = {}
        if options.copies is not None:
            self._company = self._company or Company(self._vectors)
            for group in self._company.groups(
                options.copies * units.usual * units.scale, self._ids
            ):
                members = [self._client(row) for row in group]
                served = next((client for client in members if client not in reasons), None)
                for client in members:
                    alike[client] = frozenset(members) - {client}
                    if client not in reasons and client != served:
                        reasons[client] = f"its prompt is nearly that of client {served}"
        return Screened(dict(sorted(reasons.items())), alike)

    def _client(self, row: int) -> ClientId:
        return ClientId(int(self._ids[row]))

    def _measured(self) -> Units:
        """The units, measured anew where something that they are made of has changed."""
        rows = measured_rows(self._ids)
        if self._units is None or self._units[0] != rows or not self._changed.isdisjoint(rows):
            self._units = rows, Units.of(self._vectors[torch.tensor(rows)])
        self._changed.clear()
        return self._units[1]


def measured_rows(ids: NDArray[np.int64]) -> list[int]:
    """Rows of the `MEASURED` entries with the lowest hash of their ids (SplitMix64), ascending."""
    if len(ids) <= MEASURED:
        return list(range(len(ids)))
    mixed = ids.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)  # a bijection: no two are equal
    drawn: list[int] = np.sort(np.argpartition(mixed, MEASURED)[:MEASURED]).tolist()
    return drawn


class _Lengths:
    """Distances of all vectors from a centre, which bound those from another one.

    Args:
        vectors: (n, d).
    """

    def __init__(self, vectors: Rows) -> None:
        self._vectors, self._changed = vectors, set(range(len(vectors)))
        self._known: tuple[float, Tensor] | None = None  # scale and centre of the distances
        self._away = np.zeros(0)

    def follow(self, vectors: Rows, changed: Sequence[int]) -> None:
        """Go on to other vectors; see `Screener.follow`."""
        self._vectors = vectors
        self._changed.update(changed)

    def beyond(self, units: Units, limit: float) -> list[tuple[int, float]]:
        """Rows that are further from the units' centre than a limit, ascending, and how far."""
        count = len(self._vectors)
        scale, centre = self._known = self._known or (units.scale, units.centre)
        self._away = np.concatenate([self._away, np.zeros(count - len(self._away))])
        changed = np.array(sorted(self._changed), dtype=np.int64)
        self._away[changed] = self._from(scale, centre, changed)
        self._changed.clear()
        rescaled = scale / units.scale
        bound = limit - float((units.centre - centre * rescaled).norm())
        perhaps = np.flatnonzero(~(self._away * rescaled <= bound * (1 - _ROUNDING)))
        away = self._from(units.scale, units.centre, perhaps)
        if len(perhaps) > max(MEASURED, count // _OFTEN):
            self._known, self._changed = None, set(range(count))
        far = away > limit
        return list(zip(perhaps[far].tolist(), away[far].tolist(), strict=True))

    def _from(self, scale: float, centre: Tensor, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Distances of some rows from a centre, both divided by the scale."""
        step = max(1, BLOCK_NUMBERS // max(1, len(centre)))
        away = np.empty(len(rows))
        for begin in range(0, len(rows), step):
            some = torch.from_numpy(rows[begin : begin + step])
            gaps = self._vectors[some].double() / scale - centre
            away[begin : begin + step] = gaps.norm(dim=1).numpy()
        return away
