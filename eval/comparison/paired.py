"""Differences between two methods, paired by seed and client, with a confidence interval.

Clients of one seed share a server, a partition and few-shot draws, so they are no independent
repetitions; seeds are. The interval is therefore Student's t over the seeds' mean differences.
With a single seed nothing can be said about repetition: the interval is then t over the clients,
holds for this one run of rounds only, and is marked as such.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from pfedmoap.errors import DataError
from pfedmoap.wire.messages import ClientId

BySeed = Mapping[int, Mapping[ClientId, float]]


@dataclass(frozen=True)
class Difference:
    """How much better a method is than its reference.

    Attributes:
        mean: Mean over seeds of the mean difference over clients.
        low: Lower end of the 95% interval; ``None`` where there is one pair alone.
        high: Its upper end.
        unit: What the interval repeats: ``seeds`` or ``clients``.
        units: How many of them.
        wins: Share of (seed, client) pairs in which the method is strictly better.
        losses: Share in which it is strictly worse.
    """

    mean: float
    low: float | None
    high: float | None
    unit: str
    units: int
    wins: float
    losses: float

    @property
    def clear(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


def paired_difference(method: BySeed, reference: BySeed, level: float = 0.95) -> Difference:
    """Compare two methods client by client.

    Args:
        method: Accuracy by client, by seed.
        reference: The same of the reference; only seeds that both have count.
        level: Coverage of the interval.

    Returns:
        The difference.

    Raises:
        DataError: They have no seed in common, or a seed has other clients.
    """
    seeds = sorted(set(method) & set(reference))
    if not seeds:
        raise DataError("the two methods have no seed in common")
    if any(set(method[seed]) != set(reference[seed]) for seed in seeds):
        raise DataError("the two methods have other clients: pair runs of one partition alone")
    pairs = [
        np.array(
            [method[seed][client] - reference[seed][client] for client in sorted(method[seed])]
        )
        for seed in seeds
    ]
    several = len(seeds) > 1
    units = np.array([each.mean() for each in pairs]) if several else pairs[0]
    every = np.concatenate(pairs)
    mean = float(units.mean())
    half = None
    if len(units) > 1:
        quantile = float(student.ppf((1 + level) / 2, len(units) - 1))
        half = quantile * float(units.std(ddof=1)) / len(units) ** 0.5
    return Difference(
        mean=mean,
        low=None if half is None else mean - half,
        high=None if half is None else mean + half,
        unit="clients" if not several and len(units) > 1 else "seeds",
        units=len(units),
        wins=float((every > 0).mean()),
        losses=float((every < 0).mean()),
    )
