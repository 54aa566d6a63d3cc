"""Checks and warnings that the options of all modes share."""

import logging
from typing import Annotated

from pfedmoap.config.bounds import Bounds
from pfedmoap.errors import PrivacyError
from privacy.accounting.epsilon import check_budget
from privacy.ledgers.ledger import Budget
from privacy.mechanisms.randomness import Randomness

logger = logging.getLogger(__name__)
_WORRYING_DELTA = 1e-2  # for any number of units
SMALLEST_NOISE, LARGEST_NOISE = 1e-3, 1e6
SMALLEST_NORM, LARGEST_NORM = 1e-6, 1e6
SMALLEST_RATE = 1e-6

# Ranges in which sums, noise and accountants stay well inside of floating point.
Noise = Annotated[float, Bounds(ge=SMALLEST_NOISE, le=LARGEST_NOISE)]
Norm = Annotated[float, Bounds(ge=SMALLEST_NORM, le=LARGEST_NORM)]
Rate = Annotated[float, Bounds(ge=SMALLEST_RATE, le=1)]


def check_options(
    epsilon: float, delta: float, noise_multiplier: float | None, norm: float
) -> None:
    """Raise an error for options that void any guarantee.

    Raises:
        PrivacyError: The budget is meaningless, or a clipping norm or a noise is out of range.
    """
    check_budget(epsilon, delta)
    if not SMALLEST_NORM <= norm <= LARGEST_NORM:
        raise PrivacyError(
            f"the clipping norm must be positive and finite, from {SMALLEST_NORM:g} to "
            f"{LARGEST_NORM:g}, got {norm}"
        )
    if noise_multiplier is not None and not SMALLEST_NOISE <= noise_multiplier <= LARGEST_NOISE:
        raise PrivacyError(
            f"privacy.noise_multiplier must be positive, from {SMALLEST_NOISE:g} to "
            f"{LARGEST_NOISE:g}, got {noise_multiplier}: without noise there is no privacy; use "
            "`--privacy none` and say so"
        )


def check_rate(rate: float, name: str) -> None:
    """Raise an error for a sampling rate that is none, or too small to account for.

    Raises:
        PrivacyError: It is not in [1e-6, 1]; the message calls it ``name``.
    """
    if not SMALLEST_RATE <= rate <= 1:
        raise PrivacyError(f"{name} must be in (0, 1], at least {SMALLEST_RATE:g}, got {rate}")


def warn_of_delta(delta: float, units: float, what: str) -> None:
    """Warn of a delta that would allow publishing one unit in every 1 / delta."""
    if delta >= min(_WORRYING_DELTA, 1 / units):
        logger.warning(
            "privacy.delta %g is large: a mechanism that publishes one in %.0f of what it protects "
            "would pass. Choose one well below one over the number of %s, such as %.0e",
            delta,
            1 / delta,
            what,
            min(1e-5, 0.1 / units),
        )


def make_randomness(seed: int | None) -> Randomness:
    """Make the source of samples and noise, and warn where it is a seed."""
    if seed is not None:
        logger.warning(
            "privacy.insecure_seed is set: whoever knows it can subtract the noise. "
            "The result is NOT private."
        )
    return Randomness(seed)


def warn_where_short(budget: Budget, rounds: int) -> None:
    """Warn if the configured noise does not suffice for the whole plan."""
    planned = budget.spent(rounds * budget.units)
    if planned > budget.epsilon:
        logger.warning(
            "the noise multiplier comes to epsilon %.3g over all planned rounds, but the budget is "
            "%.3g: clients will sit out once it is spent",
            planned,
            budget.epsilon,
        )
