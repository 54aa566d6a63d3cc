"""Who of a pool is served to others: neither copies of one prompt twice, nor what lies far outside.

Everybody keeps an own entry, which says who is near whom; being screened only means not being
served. Nothing here can tell an honest client from a hostile one that behaves like it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from pfedmoap.config.server import PoolOptions
from pfedmoap.server.robust_limits import robust_limit
from pfedmoap.wire.messages import ClientId

_DIRECTIONS = 8  # of a tree, which is slow in many
_SAMPLE = 512  # vectors from which directions are learned
_SKETCH = 64  # coordinates in which candidates for copies are sought
_ROUNDING = 1e-10  # of squared distances from products, relative to squared lengths


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


def screen(clients: Sequence[ClientId], prompts: Tensor, options: PoolOptions) -> Screened:
    """Decide who of a pool is served.

    Lengths are in units of the median distance of prompts from their coordinate median, which
    hostile clients below one half cannot set. Prompts within ``copies`` of that of a lower client
    id are one group with it, of which the lowest is served. What is further from the coordinate
    median than `robust_limit` with the multiple ``screen`` is served to nobody.

    Args:
        clients: n client ids in ascending order.
        prompts: Their prompts, (n, d), finite.
        options: The pool's options.

    Returns:
        The decision; everybody is served where the pool has fewer than two entries.
    """
    if len(clients) < 2:
        return Screened()
    largest = float(prompts.abs().max()) or 1.0
    rows = prompts.double() / largest  # squares of any finite prompts are finite then
    rows = rows - _lower_median(rows)
    away = rows.norm(dim=1)
    reasons: dict[ClientId, str] = {}
    if options.screen is not None:
        limit = robust_limit(away, options.screen)
        for row in (away > limit).nonzero().flatten().tolist():
            reasons[clients[row]] = (
                f"its prompt is {float(away[row] / limit):.3g} times as far from the others as "
                "pool.screen admits"
            )
    alike: dict[ClientId, frozenset[ClientId]] = {}
    if options.copies is not None:
        for group in near_copies(rows, options.copies * float(away.quantile(0.5))):
            members = [clients[row] for row in group]
            served = next((client for client in members if client not in reasons), None)
            for client in members:
                alike[client] = frozenset(members) - {client}
                if client not in reasons and client != served:
                    reasons[client] = f"its prompt is nearly that of client {served}"
    return Screened(dict(sorted(reasons.items())), alike)


def near_copies(rows: Tensor, reach: float) -> list[list[int]]:
    """Group vectors that lie within a distance of the first one of their group.

    Each vector joins the first group that it is near to, or opens one.

    Args:
        rows: (n, d) float64.
        reach: The distance; 0 groups equal vectors alone.

    Returns:
        Groups of two rows or more, each ascending, in the order of their first rows.
    """
    near = Candidates.make(rows, reach)
    free = torch.ones(len(rows), dtype=torch.bool)
    groups = []
    for row in near.rows_with_company():
        if not free[row]:
            continue
        candidates = (near.of(row) & free).nonzero().flatten()
        candidates = candidates[candidates >= row]
        members = candidates[(rows[candidates] - rows[row]).norm(dim=1) <= reach]
        free[members] = False
        if len(members) > 1:
            groups.append(members.tolist())
    return groups


@dataclass(frozen=True)
class Candidates:
    """Which vectors may be within a distance of each other, from a sketch of few coordinates.

    Coordinates along orthonormal directions make no distance longer, whatever these are, so that
    nothing that is near is missed; along the directions in which the vectors vary most, they keep
    most of it.

    Attributes:
        sketch: (n, s), the vectors themselves where they are short.
        squared: Squared lengths of its rows, (n,).
        most: Largest squared distance in the sketch of vectors within the distance.
    """

    sketch: Tensor
    squared: Tensor
    most: float

    @classmethod
    def make(cls, rows: Tensor, reach: float) -> "Candidates":
        """Sketch the vectors (n, d), float64, for a search within a distance."""
        width = rows.shape[1]
        sketch = rows @ _directions(rows) if width > _SKETCH else rows
        return cls(sketch, sketch.square().sum(1), reach**2 * (1 + _ROUNDING))

    def of(self, row: int) -> Tensor:
        """Candidates beside one row, and itself, (n,) bool."""
        return self._near(slice(row, row + 1))[0]

    def rows_with_company(self) -> list[int]:
        """Rows with a candidate beside themselves, ascending.

        A tree over the few directions along which the sketch varies most rules out nearly all rows
        of usual pools; where it does not, all pairs of the others are compared.
        """
        parts = self._perhaps().split(1024)
        return torch.cat([some[self._near(some).sum(1) > 1] for some in parts]).tolist()

    def _perhaps(self) -> Tensor:
        """Rows that may have company, ascending: distances along directions are never too long."""
        away = self.sketch - self.sketch.mean(0)
        ways = torch.linalg.eigh(away.T @ away)[1][:, -_DIRECTIONS:]
        shadows = (away @ ways).numpy()
        slack = self.most + _ROUNDING * 4 * float(self.squared.max())
        from scipy.spatial import cKDTree  # SciPy takes long to load

        counts = cKDTree(shadows).query_ball_point(shadows, slack**0.5, return_length=True)
        return torch.from_numpy(np.flatnonzero(counts > 1))

    def _near(self, some: slice | Tensor) -> Tensor:
        lengths = self.squared[some, None] + self.squared
        apart = lengths - 2 * self.sketch[some] @ self.sketch.T
        return apart <= self.most + _ROUNDING * lengths


def _directions(rows: Tensor) -> Tensor:
    """Orthonormal directions along which some of the vectors (n, d) vary most, (d, s)."""
    sample = rows[:: -(-len(rows) // _SAMPLE)]
    sample = sample - sample.mean(0)
    values, ways = torch.linalg.eigh(sample @ sample.T)
    largest = ways[:, -_SKETCH:] / values[-_SKETCH:].clamp(min=1e-20 * float(values[-1])).sqrt()
    basis: Tensor = torch.linalg.qr((sample.T @ largest).nan_to_num(0, 0, 0))[0]
    return basis


def _lower_median(rows: Tensor) -> Tensor:
    """Median of each coordinate, the lower of both where n is even, (d,)."""
    return torch.cat([part.median(dim=0).values for part in rows.split(256, dim=1)])
