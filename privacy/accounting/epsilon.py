"""Epsilon of a number of releases, and noise calibration for a budget."""

import logging
import math
from collections.abc import Callable, Mapping
from functools import cache
from typing import Literal, get_args

from pfedmoap.errors import PrivacyError
from privacy.accounting.cross_checks import LEAST_PRV_EPSILON, prv_epsilon, rdp_epsilon
from privacy.accounting.pld import LEAST_NOISE, MOST_STEPS, pld_epsilon

Accountant = Literal["pld", "rdp", "prv"]
Analysis = Callable[[float, float, int, float], float]
logger = logging.getLogger(__name__)

SMALLEST_EPSILON, LARGEST_EPSILON = 1e-5, 1e12
SMALLEST_DELTA, LARGEST_DELTA = 1e-300, 0.5
_LARGEST_MU = 1e7  # of a Gaussian mechanism: an epsilon of 5e13
_NOISE_DIGITS = 5  # significant ones that calibrated noise has
_NOISE_TOLERANCE = 5e-5  # relative, of the search


def check_budget(epsilon: float, delta: float) -> None:
    """Raise an error for a budget that is meaningless or beyond numerical range.

    Raises:
        PrivacyError: ``epsilon`` is not in [1e-5, 1e12], or ``delta`` not in [1e-300, 0.5).
    """
    if not SMALLEST_EPSILON <= epsilon <= LARGEST_EPSILON:
        raise PrivacyError(
            f"epsilon must be positive and finite, from {SMALLEST_EPSILON:g} to "
            f"{LARGEST_EPSILON:g}, got {epsilon}"
        )
    if not SMALLEST_DELTA <= delta < LARGEST_DELTA:
        raise PrivacyError(
            f"delta must be positive and below {LARGEST_DELTA:g}, got {delta}: with that "
            "probability everything may be given away. Choose one well below one over the number "
            "of the units that are protected, such as 1e-5"
        )


def check_accountant(name: str) -> Accountant:
    """Return the accountant of that name.

    Raises:
        PrivacyError: There is none, or none any more.
    """
    if name == "gdp":
        raise PrivacyError(
            "privacy.accountant `gdp` was removed, because it understates epsilon (a target of 2 "
            "was 4.5 in truth): results of runs with it are not as private as they claim. Choose "
            "`pld`, and run again"
        )
    for known in get_args(Accountant):
        if name == known:
            return known  # type: ignore[no-any-return]  # get_args does not know its types
    raise PrivacyError(
        f"no privacy.accountant {name!r}, expected one of: {', '.join(get_args(Accountant))}"
    )


@cache
def sampled_gaussian_epsilon(
    accountant: Accountant, noise_multiplier: float, sample_rate: float, steps: int, delta: float
) -> float:
    """Account for DP-SGD: ``steps`` sampled Gaussian mechanisms, adaptively composed.

    Add/remove neighbours and Poisson sampling are assumed. All accountants give upper bounds:
    ``pld`` a tight one (`pld_epsilon`), ``rdp`` and ``prv`` (`cross_checks`) to compare.

    Args:
        accountant: Which analysis.
        noise_multiplier: Noise in multiples of the sensitivity.
        sample_rate: Sampling rate q.
        steps: Number of steps.
        delta: Delta of the guarantee.

    Returns:
        Epsilon.

    Raises:
        PrivacyError: The accountant cannot handle these values; the message names another.
    """
    if steps == 0:
        return 0.0
    return _ANALYSES[accountant](noise_multiplier, sample_rate, steps, delta)


def _tight_epsilon(noise_multiplier: float, sample_rate: float, steps: int, delta: float) -> float:
    """The privacy loss distribution's epsilon, or without sampling the exact one.

    Sampling never costs privacy, so that the account without it is an upper bound, too.
    """
    unsampled = gaussian_epsilon(noise_multiplier, steps, delta)
    if sample_rate == 1 or noise_multiplier < LEAST_NOISE:
        return unsampled
    if steps > MOST_STEPS:
        return min(unsampled, rdp_epsilon(noise_multiplier, sample_rate, steps, delta))
    return pld_epsilon(noise_multiplier, sample_rate, steps, delta, unsampled)


_ANALYSES: Mapping[Accountant, Analysis] = {
    "pld": _tight_epsilon,
    "rdp": rdp_epsilon,
    "prv": prv_epsilon,
}


@cache
def sampled_gaussian_noise(
    accountant: Accountant, epsilon: float, delta: float, sample_rate: float, steps: int
) -> float:
    """Find the least noise with which a whole run of DP-SGD stays within its budget.

    Args:
        accountant: Which analysis; see `sampled_gaussian_epsilon`.
        epsilon: Epsilon after all steps.
        delta: Delta of the guarantee.
        sample_rate: Sampling rate q.
        steps: Number of steps of the whole run.

    Returns:
        The noise multiplier, rounded up to five digits so that it is the same number on another
        machine; the epsilon that it gives is at most the target.

    Raises:
        PrivacyError: The accountant cannot show so small an epsilon, whatever the noise.
    """
    check_budget(epsilon, delta)
    if accountant == "prv" and epsilon < LEAST_PRV_EPSILON:
        raise PrivacyError(
            f"the prv accountant is .01 off and cannot calibrate for epsilon {epsilon:g}, expected "
            f"{LEAST_PRV_EPSILON:g} or more; choose `--privacy.accountant pld`"
        )

    def spent(noise: float) -> float:
        return sampled_gaussian_epsilon(accountant, noise, sample_rate, steps, delta)

    high = gaussian_noise(epsilon, delta, steps)  # enough without any sampling
    if spent(high) > epsilon and (least := spent(1e4 * high)) > epsilon:
        raise PrivacyError(
            f"the {accountant} accountant cannot show an epsilon below {least:.3g} at delta "
            f"{delta:g} in {steps} steps, whatever the noise, and {epsilon:g} is asked for; "
            "choose `--privacy.accountant pld`"
        )
    from scipy.optimize import brentq

    while spent(high) > epsilon:
        high *= 1.5
    low = sample_rate * high  # in the limit of much noise, sampling saves this factor
    while spent(low) <= epsilon:
        low, high = low / 1.5, low
    root = brentq(
        lambda log: math.log(max(spent(math.exp(log)), 1e-9) / epsilon),
        math.log(low),
        math.log(high),
        xtol=_NOISE_TOLERANCE,
    )
    return _rounded_up(math.exp(root), lambda noise: spent(noise) <= epsilon)


@cache
def gaussian_epsilon(noise_multiplier: float, releases: int, delta: float) -> float:
    """Account for plain Gaussian releases, adaptively composed; exact.

    ``n`` releases with multiplier sigma are one with ``sigma / sqrt(n)``, and a single one is
    analysed exactly by the analytic Gaussian mechanism (Balle and Wang, ICML 2018, theorem 8).

    Args:
        noise_multiplier: Noise in multiples of the sensitivity.
        releases: Number of releases.
        delta: Delta of the guarantee.

    Returns:
        Epsilon; infinite where it is beyond 5e13.
    """
    from scipy.optimize import brentq

    if releases == 0:
        return 0.0
    mu = releases**0.5 / noise_multiplier
    if mu > _LARGEST_MU:
        return math.inf
    log_delta = math.log(delta)
    if _log_delta(0.0, mu) <= log_delta:
        return 0.0
    high = mu
    while _log_delta(high, mu) > log_delta:
        high *= 2
    root: float = brentq(
        lambda epsilon: _log_delta(epsilon, mu) - log_delta, 0.0, high, xtol=1e-15, rtol=1e-12
    )
    return root * (1 + 1e-9)  # above the truth by more than any rounding


def gaussian_noise(epsilon: float, delta: float, releases: int) -> float:
    """Find the least noise with which plain Gaussian releases stay within their budget.

    Args:
        epsilon: Epsilon after all releases.
        delta: Delta of the guarantee.
        releases: Number of releases.

    Returns:
        The noise multiplier, rounded up like that of `sampled_gaussian_noise`.
    """
    from scipy.optimize import brentq

    check_budget(epsilon, delta)
    log_delta = math.log(delta)
    low = high = 1.0  # bounds of mu, between which the noise is searched
    while _log_delta(epsilon, low) > log_delta:
        low /= 2
    while _log_delta(epsilon, high) <= log_delta:
        high *= 2
    mu: float = brentq(
        lambda mu: _log_delta(epsilon, mu) - log_delta, low, high, xtol=1e-15, rtol=1e-12
    )
    return _rounded_up(
        releases**0.5 / mu, lambda noise: gaussian_epsilon(noise, releases, delta) <= epsilon
    )


def _rounded_up(noise: float, suffices: Callable[[float], bool]) -> float:
    """Return the first noise with few digits that suffices, starting from an approximate one."""
    unit = 10.0 ** (math.floor(math.log10(noise)) + 1 - _NOISE_DIGITS)
    steps = math.ceil(noise / unit)
    while not suffices(rounded := float(f"{steps * unit:.{_NOISE_DIGITS - 1}e}")):
        steps += 1
    return rounded


def _log_delta(epsilon: float, mu: float) -> float:
    """Log of a Gaussian mechanism's least delta, with mu the sensitivity over the noise.

    Balle and Wang's ``Phi(mu / 2 - epsilon / mu) - exp(epsilon) Phi(-mu / 2 - epsilon / mu)``, in
    logarithms, so that no epsilon overflows.
    """
    from scipy.special import log_ndtr

    first = float(log_ndtr(mu / 2 - epsilon / mu))
    second = epsilon + float(log_ndtr(-mu / 2 - epsilon / mu))
    gap = second - first
    return first + math.log(-math.expm1(gap)) if gap < 0 else -math.inf
