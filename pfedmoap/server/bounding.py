"""Bounds on what one client can do to a round: how far its upload moves, and how much it weighs.

Both come after admission, which refuses what is no upload at all. What is too long is shortened
and what weighs too much is capped, rather than refused: an honest client with unusual data still
moves the average in its direction, and a hostile one moves it as little as if it were honest.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from pfedmoap.config.server import ServerOptions
from pfedmoap.server.robust_limits import robust_limit
from pfedmoap.wire.messages import Arrays, ClientId, Update

_USUAL_WEIGHT = 3.0  # times the median of what the round's clients claim


@dataclass(frozen=True)
class Excess:
    """What was beyond a bound.

    Attributes:
        found: The value that arrived.
        limit: What it was reduced to.
    """

    found: float
    limit: float


@dataclass(frozen=True)
class Bounded:
    """What the server reduced in a round.

    Attributes:
        shortened: Lengths of changes, by client and array.
        capped: Claimed numbers of examples, by client.
    """

    shortened: Mapping[ClientId, Mapping[str, Excess]] = field(default_factory=dict)
    capped: Mapping[ClientId, Excess] = field(default_factory=dict)


def bound_updates(
    updates: Sequence[Update],
    starts: Mapping[ClientId, Arrays],
    options: ServerOptions,
) -> tuple[list[Update], Bounded]:
    """Bound the changes and the weights of a round's admitted updates.

    Args:
        updates: Admitted updates.
        starts: What each client's upload started from, by array. A change is measured from there;
            for an array without a start, from zero, and for one with fewer rows than its start,
            row by row from the nearest of its rows.
        options: The bounds.

    Returns:
        Updates that are within them, in the same order, and what was reduced.
    """
    updates, shortened = _bound_changes(updates, starts, options.max_change)
    updates, capped = _bound_weights(_with_counts(updates), options.max_examples)
    return updates, Bounded(shortened, capped)


def _bound_changes(
    updates: Sequence[Update], starts: Mapping[ClientId, Arrays], multiple: float | None
) -> tuple[list[Update], dict[ClientId, dict[str, Excess]]]:
    if multiple is None or not updates:
        return list(updates), {}
    arrays = [dict(update.arrays) for update in updates]
    shortened: dict[ClientId, dict[str, Excess]] = {}
    for name, value in updates[0].arrays.items():
        if not value.is_floating_point():
            continue
        origins = [
            _origin(update.arrays[name], starts.get(update.client, {}).get(name))
            for update in updates
        ]
        moves = [own[name].double() - origin for own, origin in zip(arrays, origins, strict=True)]
        lengths = torch.stack([move.norm() for move in moves]).cpu()
        limit = robust_limit(lengths, multiple)
        for row in (lengths > limit).nonzero().flatten().tolist():
            own, length = arrays[row], float(lengths[row])
            own[name] = (origins[row] + moves[row] * (limit / length)).to(own[name].dtype)
            shortened.setdefault(updates[row].client, {})[name] = Excess(length, limit)
    bounded = [
        replace(update, arrays=own) if update.client in shortened else update
        for update, own in zip(updates, arrays, strict=True)
    ]
    return bounded, shortened


def _with_counts(updates: Sequence[Update]) -> Sequence[Update]:
    """Let clients that withhold a count which others state weigh as little as the least of these.

    Where counts are private, all clients withhold theirs. One client must not stop the round by
    doing otherwise, and must not gain by it.
    """
    stated = [update.num_examples for update in updates if update.num_examples is not None]
    if len(stated) in (0, len(updates)):
        return updates
    least = min(stated)
    return [
        replace(update, num_examples=least) if update.num_examples is None else update
        for update in updates
    ]


def _bound_weights(
    updates: Sequence[Update], most: int | None
) -> tuple[list[Update], dict[ClientId, Excess]]:
    counts = torch.tensor([update.num_examples or 0 for update in updates], dtype=torch.float64)
    limit = robust_limit(counts, _USUAL_WEIGHT) if most is None else most
    if math.isinf(limit):
        return list(updates), {}
    whole = max(1, int(limit))
    capped = {
        update.client: Excess(int(update.num_examples), whole)
        for update in updates
        if update.num_examples is not None and update.num_examples > whole
    }
    bounded = [
        replace(update, num_examples=whole) if update.client in capped else update
        for update in updates
    ]
    return bounded, capped


def _origin(value: Tensor, start: Tensor | None) -> Tensor:
    """What a change is measured from, like ``value`` in float64."""
    if start is None:
        return torch.zeros_like(value, dtype=torch.float64)
    start = start.to(value.device, torch.float64)
    if start.shape == value.shape:
        return start
    rows = value.double().flatten(1)
    apart = torch.cdist(rows, start.flatten(1), compute_mode="donot_use_mm_for_euclid_dist")
    return start[apart.argmin(1)]
