"""Checks and warnings that the options of all modes share."""

import logging
import math

from pfedmoap.errors import PrivacyError
from privacy.accounting.epsilon import check_budget
from privacy.ledgers.ledger import Budget
from privacy.mechanisms.randomness import Randomness

logger = logging.getLogger(__name__)
_WORRYING_DELTA = 1e-2  # for any number of units


def check_options(
    epsilon: float, delta: float, noise_multiplier: float | None, norm: float
) -> None:
    """Raise an error for options that void any guarantee.

    Raises:
        PrivacyError: The budget is meaningless, or a clipping norm or a noise is not positive.
    """
    check_budget(epsilon, delta)
    if not 0 < norm < math.inf:
        raise PrivacyError(f"the clipping norm must be positive and finite, got {norm}")
    if noise_multiplier is not None and not 0 < noise_multiplier < math.inf:
        raise PrivacyError(
            f"privacy.noise_multiplier must be positive, got {noise_multiplier}: without noise "
            "there is no privacy; use `--privacy none` and say so"
        )


def warn_of_delta(delta: float, units: float, what: str) -> None:
    """Warn of a delta that would allow publishing one unit in every 1 / delta."""
    if delta >= min(_WORRYING_DELTA, 1 / units):
        logger.warning(
            "privacy.delta %g is large: a mechanism that publishes one in %.0f of what it protects "
            "would pass. Choose one well below one over the number of %s, such as 1e-5",
            delta,
            1 / delta,
            what,
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
