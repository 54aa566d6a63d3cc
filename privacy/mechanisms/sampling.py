"""Poisson sampling at a public rate, with a public number of steps and a public normaliser."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pfedmoap.client.batches import BatchPlan, Stream
from privacy.mechanisms.groups import Examples, Units
from privacy.mechanisms.randomness import Randomness


def poisson_batches(
    sizes: Sequence[int],
    views: int,
    streams: Sequence[Stream],
    *,
    steps: int,
    rate: float,
    normaliser: float,
    randomness: Randomness,
    units: Units | None = None,
) -> BatchPlan:
    """Include each unit in each step independently with probability ``rate``.

    A unit is an example, or all examples of one person, which are then drawn together or not at
    all.

    This is what amplification by sampling is proved for; shuffled epochs are not. A step may be
    empty and is still taken: skipping it would reveal that. Neither the number of steps nor the
    weight of an example depends on the size of the data set, which is private itself.

    Args:
        sizes: Number of training examples of each of K clients.
        views: Number V of views of each example; each draw takes one uniformly.
        streams: The clients' random streams.
        steps: Steps S of every client.
        rate: Sampling rate q, in (0, 1].
        normaliser: What a step's sum of gradients is divided by.
        randomness: Where the draws come from.
        units: What is drawn; ``None`` draws example by example.

    Returns:
        A plan for K clients, in which every step is active.
    """
    units = units or Examples()
    plans = [
        _client_batches(units.of(stream.client, size), views, stream, steps, rate, randomness)
        for size, stream in zip(sizes, streams, strict=True)
    ]
    weighted = [(index, view, chosen / normaliser) for index, view, chosen, _ in plans]
    owners = [_counted(owner, chosen) for *_, chosen, owner in plans] if units.many else None
    return BatchPlan.stack(weighted, streams, owners)


def _client_batches(
    unit: Tensor, views: int, stream: Stream, steps: int, rate: float, randomness: Randomness
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Draw one client's batches: index, view, whether it is a real one, and unit, each (S, B).

    Args:
        unit: The unit of each of its n examples, (n,), counted from 0; -1 never trains.
        views: Number of views.
        stream: The client's random stream.
        steps: Steps S.
        rate: Sampling rate.
        randomness: Where the draws come from.
    """
    draws = randomness.stream("sampling", stream.client, stream.round)
    count = int(unit.max()) + 1 if len(unit) else 0
    drawn = draws.uniform(steps, count) < rate
    never = torch.zeros(steps, 1, dtype=torch.bool)
    included = torch.cat([drawn, never], dim=1)[:, unit]  # -1 is the last column
    view = draws.integers(views, steps, len(unit))
    width = max(1, int(included.sum(1).max()))
    order = included.long().argsort(dim=1, descending=True, stable=True)[:, :width]
    chosen = included.gather(1, order)
    return order * chosen, view.gather(1, order) * chosen, chosen.float(), unit[order] * chosen


def _counted(owner: Tensor, chosen: Tensor) -> Tensor:
    """Number the units of each step from 0: (S, B) units and whether each is a real one."""
    numbers = torch.zeros_like(owner)
    for step, real in enumerate(chosen > 0):
        numbers[step, real] = owner[step, real].unique(return_inverse=True)[1]
    return numbers
