"""Opacus' accountants (Renyi DP, privacy random variables), to cross-check our own."""

import logging
import warnings
from collections.abc import Sequence
from typing import Literal

import numpy as np

from pfedmoap.errors import PrivacyError

logger = logging.getLogger(__name__)

# Orders of RDP: any set is valid. Opacus' own lacks large ones, which small budgets need; small
# ones are slow to evaluate and serve large budgets only.
_ORDERS = [*(2 + x / 10 for x in range(21)), *(4.5 + x / 2 for x in range(12)), *range(11, 16)]
_ORDERS += [*range(16, 32, 2), *range(32, 64, 4), 64, 80, 96, 128, 192, 256, 512]
_SMALL_ORDERS = [1 + x / 10 for x in range(1, 10)]
_LARGE_EPSILON = 10.0
LEAST_PRV_EPSILON = 0.1  # ten times the absolute error that Opacus' PRV accountant adds


def rdp_epsilon(noise_multiplier: float, sample_rate: float, steps: int, delta: float) -> float:
    """Bound epsilon by Renyi differential privacy (Mironov et al., arXiv 1908.10530).

    An upper bound at any noise. However much noise there is, it cannot fall below about .008 at a
    delta of 1e-5, because orders end at 512.

    Raises:
        PrivacyError: The accountant's numerics fail.
    """
    return composed_rdp_epsilon([(noise_multiplier, sample_rate, steps)], delta)


def composed_rdp_epsilon(mechanisms: Sequence[tuple[float, float, int]], delta: float) -> float:
    """Bound the epsilon of different mechanisms together; see `rdp_epsilon`.

    Args:
        mechanisms: Noise multiplier, sampling rate and number of steps of each.
        delta: Delta of the guarantee.
    """
    found = _spent("rdp", mechanisms, delta, alphas=_ORDERS)
    if not found <= _LARGE_EPSILON:
        found = _spent("rdp", mechanisms, delta, alphas=_SMALL_ORDERS + _ORDERS)
    if not np.isfinite(found):
        shown = "; ".join(
            f"noise multiplier {noise:g}, sample rate {rate:g}, {steps} steps"
            for noise, rate, steps in mechanisms
        )
        raise PrivacyError(
            f"the rdp accountant finds no epsilon for {shown}; choose `--privacy.accountant pld`"
        )
    return found


def prv_epsilon(noise_multiplier: float, sample_rate: float, steps: int, delta: float) -> float:
    """Bound epsilon by privacy random variables (Gopi et al., NeurIPS 2021).

    Up to .01 above the truth. Falls back to `rdp_epsilon` where its numerics fail, and logs that.
    """
    try:
        found = _spent("prv", [(noise_multiplier, sample_rate, steps)], delta)
    except (ArithmeticError, ValueError, RuntimeError, MemoryError, IndexError, PrivacyError):
        found = float("nan")
    if np.isfinite(found):
        return found
    logger.warning(
        "the PRV accountant cannot handle noise multiplier %.3g, sample rate %g, %d steps and "
        "delta %g; accounting with RDP instead, which is looser but holds",
        noise_multiplier,
        sample_rate,
        steps,
        delta,
    )
    return rdp_epsilon(noise_multiplier, sample_rate, steps, delta)


def _spent(
    name: Literal["rdp", "prv"],
    mechanisms: Sequence[tuple[float, float, int]],
    delta: float,
    **options: list[float],
) -> float:
    from opacus.accountants import create_accountant  # takes a second

    made = create_accountant(name)
    made.history = list(mechanisms)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # hints that the best order was an extreme one
        try:
            return float(made.get_epsilon(delta=delta, **options))
        except (ArithmeticError, ValueError, RuntimeError, MemoryError, IndexError) as error:
            raise PrivacyError(
                f"the {name} accountant failed ({error}); choose `--privacy.accountant pld`"
            ) from error
