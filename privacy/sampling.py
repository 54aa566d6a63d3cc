"""Poisson sampling at a public rate, with a public number of steps and a public normaliser."""

from collections.abc import Sequence

from torch import Tensor

from pfedmoap.batches import BatchPlan, Stream
from privacy.randomness import Randomness


def poisson_batches(
    sizes: Sequence[int],
    views: int,
    streams: Sequence[Stream],
    *,
    steps: int,
    rate: float,
    normaliser: float,
    randomness: Randomness,
) -> BatchPlan:
    """Include each example in each step independently with probability ``rate``.

    This is what amplification by sampling is proved for; shuffled epochs are not. A step may be
    empty and is taken nevertheless: skipping it would tell. Neither the number of steps nor the
    weight of an example depends on the size of the data set, which is private itself.

    Args:
        sizes: Number of training examples of each of K clients.
        views: Number V of views of each example; each draw takes one uniformly.
        streams: The clients' random streams.
        steps: Steps S of every client.
        rate: Sampling rate q, in (0, 1].
        normaliser: What a step's sum of gradients is divided by.
        randomness: Where the draws come from.

    Returns:
        A plan for K clients, in which every step is active.
    """
    plans = [
        _client_batches(size, views, stream, steps, rate, randomness)
        for size, stream in zip(sizes, streams, strict=True)
    ]
    weighted = [(index, view, chosen / normaliser) for index, view, chosen in plans]
    return BatchPlan.stack(weighted, streams)


def _client_batches(
    size: int, views: int, stream: Stream, steps: int, rate: float, randomness: Randomness
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw one client's batches: index, view and whether it is a real one, each (S, B)."""
    draws = randomness.stream("sampling", stream.client, stream.round)
    included = draws.uniform(steps, size) < rate
    view = draws.integers(views, steps, size)
    width = max(1, int(included.sum(1).max()))
    order = included.long().argsort(dim=1, descending=True, stable=True)[:, :width]
    chosen = included.gather(1, order)
    return order * chosen, view.gather(1, order) * chosen, chosen.float()
