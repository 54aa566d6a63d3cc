"""Trade-off curves of privacy claims: f-DP (Dong, Roth and Su, 2022).

A mechanism is f-private if every test between two neighbouring data sets with false positive rate a
has a false negative rate of at least f(a). A curve says more than (epsilon, delta), and an audit
against a curve is stronger. The computation uses an equivalent form: an event with probability x
under one data set has at least probability ``f(1 - x)`` under its neighbour.
"""

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from privacy.accounting.epsilon import gaussian_epsilon
from privacy.accounting.pld import LEAST_NOISE, pld_deltas

_EPSILONS = np.concatenate([np.linspace(0.0, 4.0, 81), np.linspace(4.25, 40.0, 144)])


class TradeOff(Protocol):
    """A symmetric trade-off curve f."""

    def least(self, x: float) -> float:
        """Least probability under a neighbour of what has probability x: ``f(1 - x)``."""
        ...

    def epsilon(self, delta: float) -> float:
        """The epsilon that belongs to a delta."""
        ...


class Claim(Protocol):
    """A family of curves by how much noise there is, of which the claimed one has factor 1."""

    def with_noise(self, factor: float) -> TradeOff:
        """The curve if there were ``factor`` times the claimed noise."""
        ...


@dataclass(frozen=True)
class Gaussian:
    """Gaussian differential privacy: ``f(a) = Phi(Phi^-1(1 - a) - mu)``.

    Steps without sampling compose exactly: n of them with noise multiplier s have
    ``mu = sqrt(n) / s``.

    Attributes:
        mu: Distance of the two data sets in units of the noise.

    Examples:
        >>> round(Gaussian(1.0).least(0.5), 4)
        0.1587
    """

    mu: float

    def least(self, x: float) -> float:
        """See `TradeOff.least`."""
        return float(ndtr(ndtri(x) - self.mu))

    def epsilon(self, delta: float) -> float:
        """Compute epsilon exactly (Balle and Wang, 2018)."""
        return gaussian_epsilon(1 / self.mu, 1, delta) if self.mu > 0 else 0.0

    def with_noise(self, factor: float) -> "Gaussian":
        """See `Claim.with_noise`."""
        return Gaussian(self.mu / factor)


@dataclass(frozen=True)
class Profile:
    """A curve known by points of its privacy profile.

    From delta_i at epsilon_i it is f-private with
    ``f(a) = max over i of max(0, 1 - delta_i - e^epsilon_i a, e^-epsilon_i (1 - delta_i - a))``
    (Dong, Roth and Su, 2022, section 2.3). Fewer points make the curve lower, and an audit milder.

    Attributes:
        epsilons: In ascending order.
        deltas: Delta at each.
    """

    epsilons: tuple[float, ...]
    deltas: tuple[float, ...]

    @cached_property
    def _arrays(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return np.exp(np.array(self.epsilons)), np.array(self.deltas)

    def least(self, x: float) -> float:
        """See `TradeOff.least`."""
        odds, delta = self._arrays
        steep = 1 - delta - odds * (1 - x)
        flat = (x - delta) / odds
        return max(0.0, float(steep.max()), float(flat.max()))

    def epsilon(self, delta: float) -> float:
        """Interpolate between the points; the last one's epsilon where all have larger deltas."""
        deltas = np.array(self.deltas)
        after = int(np.argmax(deltas <= delta))
        if deltas[after] > delta:
            return self.epsilons[-1]
        if after == 0:
            return self.epsilons[0]
        low, high = self.epsilons[after - 1], self.epsilons[after]
        top, bottom = (math.log(max(deltas[i], 1e-300)) for i in (after - 1, after))
        return high - (high - low) * (math.log(delta) - bottom) / max(top - bottom, 1e-12)


@dataclass(frozen=True)
class SampledSteps:
    """The claim of private steps: n compositions of the Poisson-sampled Gaussian mechanism.

    Attributes:
        noise_multiplier: Noise in multiples of the clipping norm.
        sample_rate: Probability of an example to be in a step.
        steps: Number n of steps.
    """

    noise_multiplier: float
    sample_rate: float
    steps: int

    def with_noise(self, factor: float) -> TradeOff:
        """See `Claim.with_noise`; exact without sampling, from the PLD accountant with it."""
        noise = self.noise_multiplier * factor
        if self.sample_rate == 1:
            return Gaussian(math.sqrt(self.steps) / noise)
        return Profile(tuple(_EPSILONS), _deltas(noise, self.sample_rate, self.steps))


@lru_cache(maxsize=512)
def _deltas(noise: float, rate: float, steps: int) -> tuple[float, ...]:
    if noise < LEAST_NOISE:
        return (1.0,) * len(_EPSILONS)
    return tuple(pld_deltas(noise, rate, steps, list(_EPSILONS)))
