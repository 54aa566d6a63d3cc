"""Epsilon of DP-SGD from privacy loss distributions, by Google's dp-accounting."""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from pfedmoap.errors import PrivacyError

if TYPE_CHECKING:  # at run time it is imported where it is used: it takes a second
    from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution

# Below this noise a single step costs an epsilon above 1,000 and losses no longer fit a grid.
LEAST_NOISE = 0.02
MOST_STEPS = 10**6  # whose distributions are composed in seconds
_POINTS = 40  # grid points in one standard deviation of a step's privacy loss
_MOST_POINTS = 50_000  # of a step's distribution
_ROUNDING = 1e-16  # by how much the Fourier transform may lose delta, for each step
_FOURIER_SHARE = 0.01  # of delta at most


def pld_epsilon(
    noise_multiplier: float, sample_rate: float, steps: int, delta: float, at_most: float
) -> float:
    """Bound the epsilon of Poisson-sampled Gaussian steps by their privacy loss distribution.

    An **upper bound**: losses are rounded to a grid so that no hockey-stick divergence shrinks
    ("connect the dots", Doroshenko et al., arXiv 2207.04380), and what the Fourier transform may
    lose is taken off delta. Adding and removing an example have distributions of their own; the
    larger epsilon counts, at each delta (Lebeda et al., arXiv 2405.20769, show why both).

    Args:
        noise_multiplier: Noise in multiples of the sensitivity, at least `LEAST_NOISE`.
        sample_rate: Sampling rate q, in (0, 1].
        steps: Number of steps, at least 1.
        delta: Delta of the guarantee.
        at_most: An epsilon that is known to hold.

    Returns:
        Epsilon.

    Raises:
        PrivacyError: Delta is too small for double precision.
    """
    if not resolves(delta, steps):
        raise PrivacyError(
            f"the pld accountant resolves a delta of {_lost(steps) / _FOURIER_SHARE:.0e} or more "
            f"in {steps} steps, got {delta:g}; choose a larger privacy.delta, or "
            "`--privacy.accountant rdp`"
        )
    return composed_pld_epsilon([(noise_multiplier, sample_rate, steps)], delta, at_most)


def composed_pld_epsilon(
    mechanisms: Sequence[tuple[float, float, int]], delta: float, at_most: float
) -> float:
    """Bound the epsilon of different mechanisms together; see `pld_epsilon`.

    All of them are on one grid: as fine as the finest needs, as far as the largest loss allows.

    Args:
        mechanisms: Noise multiplier, sampling rate and number of steps of each; at least one.
        delta: Delta of the guarantee, of which `resolves` holds.
        at_most: An epsilon that is known to hold.
    """
    from scipy.optimize import brentq

    widths = [_widths(noise, rate) for noise, rate, _ in mechanisms]
    width = max(min(fine for fine, _ in widths), max(least for _, least in widths))
    with np.errstate(over="ignore", under="ignore"):  # of bounds that are then not used
        composed: PrivacyLossDistribution | None = None
        for noise, rate, steps in mechanisms:
            part = _step(noise, rate, width).self_compose(steps)
            composed = part if composed is None else composed.compose(part)
        if composed is None:
            raise PrivacyError("nothing to account for: expected at least one mechanism")
        total = composed
        left = delta - _lost(sum(steps for _, _, steps in mechanisms))

        # dp-accounting's own search for epsilon overflows where losses are near 740.
        def excess(epsilon: float) -> float:
            return math.log(max(float(total.get_delta_for_epsilon(epsilon)), 1e-300) / left)

        if excess(0.0) <= 0:
            return 0.0
        if excess(at_most) >= 0:
            return at_most
        root: float = brentq(excess, 0.0, at_most, xtol=1e-15, rtol=1e-9)
        return min(root * (1 + 1e-8), at_most)


def pld_deltas(
    noise_multiplier: float, sample_rate: float, steps: int, epsilons: Sequence[float]
) -> list[float]:
    """Bound delta from above at several epsilons, at most 700; see `pld_epsilon`."""
    with np.errstate(over="ignore", under="ignore"):
        width = max(_widths(noise_multiplier, sample_rate))
        composed = _step(noise_multiplier, sample_rate, width).self_compose(steps)
        found = composed.get_delta_for_epsilon(list(epsilons))
    return [min(1.0, max(0.0, float(delta)) + _lost(steps)) for delta in found]


def resolves(delta: float, steps: int) -> bool:
    """Whether double precision suffices for a delta after a number of steps."""
    return _lost(steps) <= _FOURIER_SHARE * delta


def _lost(steps: int) -> float:
    return _ROUNDING * max(steps, 10)


def _widths(noise_multiplier: float, sample_rate: float) -> tuple[float, float]:
    """Return a grid width that is small relative to a step's losses, and the smallest possible one.

    Rounding to a grid of width d adds at most d^2 / 4 to the variance of a step's loss.
    """
    inverse = 1 / noise_multiplier
    spread = min(sample_rate * math.sqrt(math.expm1(min(inverse**2, 600.0))), inverse)
    # Losses end where the noise's tails are cut, at 10 standard deviations.
    farthest = inverse * (inverse / 2 + 10)
    largest = math.log1p(sample_rate * math.expm1(min(farthest, 600.0)))
    return spread / _POINTS, 2 * max(largest, farthest - 600.0) / _MOST_POINTS


@lru_cache(maxsize=8)
def _step(noise_multiplier: float, sample_rate: float, width: float) -> "PrivacyLossDistribution":
    from dp_accounting.pld.privacy_loss_distribution import from_gaussian_mechanism

    return from_gaussian_mechanism(
        noise_multiplier, value_discretization_interval=width, sampling_prob=sample_rate
    )
