"""The total epsilon of several runs, perhaps with different mechanisms, on the same clients."""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple, get_args

from pfedmoap.errors import PrivacyError
from privacy.accounting.cross_checks import composed_rdp_epsilon
from privacy.accounting.epsilon import Accountant, gaussian_epsilon, sampled_gaussian_epsilon
from privacy.accounting.pld import LEAST_NOISE, MOST_STEPS, composed_pld_epsilon, resolves
from privacy.ledgers.ledger_file import Account, unit_of


class Steps(NamedTuple):
    """Equal Gaussian steps.

    Attributes:
        noise_multiplier: Noise in multiples of the sensitivity.
        sample_rate: Probability of a unit to be in a step; 1 is no sampling.
        steps: How many.
    """

    noise_multiplier: float
    sample_rate: float
    steps: int


def total_epsilon(accounts: Sequence[Account], delta: float) -> float:
    """Compute the total epsilon of all runs on a client, from its ledger.

    Runs of one mechanism are accounted for by the accountant that they chose; see
    `composed_accounts` for the others.
    """
    first = accounts[0].mechanism if accounts else {}
    accountant = first.get("accountant")
    if all(account.mechanism == first for account in accounts):
        for known in get_args(Accountant):
            if accountant == known:
                noise, rate, _ = _steps(accounts[0])
                units = sum(account.units for account in accounts)
                return sampled_gaussian_epsilon(known, noise, rate, units, delta)
    return composed_accounts(accounts, delta)


def composed_accounts(accounts: Sequence[Account], delta: float) -> float:
    """Account for several runs on the same client, whatever their mechanisms.

    Args:
        accounts: What each run has charged.
        delta: Delta of the total.

    Returns:
        Epsilon of all of them together.

    Raises:
        PrivacyError: They do not protect the same unit, so that they have no common total.
    """
    refuse_different_units(accounts)
    return composed_epsilon(tuple(_steps(account) for account in accounts), delta)


def refuse_different_units(accounts: Iterable[Account]) -> None:
    """Refuse to add up runs that protect different units.

    That they are in ledgers of different clients does not make them apart: a mean that the server
    noises is in one ledger that stands for all clients.

    Args:
        accounts: What each run has charged, to one client or to all that share a folder.

    Raises:
        PrivacyError: They have no common total.
    """
    units = sorted({unit_of(account.mechanism) for account in accounts})
    if len(units) > 1:
        raise PrivacyError(
            "the ledgers hold runs that protect different units "
            f"({'; '.join(units)}): they have no common total. Keep their ledgers in different "
            "folders (privacy.ledgers), and report both budgets"
        )


@lru_cache(maxsize=4096)
def composed_epsilon(mechanisms: tuple[Steps, ...], delta: float) -> float:
    """Account for different sampled Gaussian mechanisms, adaptively composed in any order.

    An **upper bound**, by privacy loss distributions, see `pld_epsilon`; exact where no step is
    sampled; by Renyi differential privacy, which is looser, where delta is too small for that.

    Args:
        mechanisms: The mechanisms.
        delta: Delta of the total.

    Returns:
        Epsilon.
    """
    together = _gathered(mechanisms)
    if not together:
        return 0.0
    # Sampling never costs privacy, so that the account without any is an upper bound.
    precision = sum(each.steps / each.noise_multiplier**2 for each in together)
    unsampled = gaussian_epsilon(precision**-0.5, 1, delta)
    too_little = min(each.noise_multiplier for each in together) < LEAST_NOISE
    if too_little or all(each.sample_rate == 1 for each in together):
        return unsampled
    steps = sum(each.steps for each in together)
    if steps > MOST_STEPS or not resolves(delta, steps):
        return min(unsampled, composed_rdp_epsilon(together, delta))
    return composed_pld_epsilon(together, delta, unsampled)


def _gathered(mechanisms: Sequence[Steps]) -> list[Steps]:
    """Merge equal steps, and all steps without sampling into one with the equivalent noise.

    n releases with multiplier sigma are one with sigma over the root of n.
    """
    counts: dict[tuple[float, float], int] = {}
    precision = 0.0
    for noise, rate, steps in mechanisms:
        if rate == 1:
            precision += steps / noise**2
        elif steps:
            counts[noise, rate] = counts.get((noise, rate), 0) + steps
    plain = [Steps(precision**-0.5, 1.0, 1)] if precision else []
    return plain + [Steps(*key, count) for key, count in sorted(counts.items())]


def _steps(account: Account) -> Steps:
    noise, rate = (
        account.mechanism.get(name, default)
        for name, default in (("noise_multiplier", 0.0), ("sample_rate", 1.0))
    )
    numbers = all(type(value) in (int, float) for value in (noise, rate))
    if not numbers or not (noise > 0 and 0 < rate <= 1):
        raise PrivacyError(
            f"run {account.run} says noise multiplier {noise!r} and sample rate {rate!r}: it "
            "cannot be added up with runs of another mechanism"
        )
    return Steps(float(noise), float(rate), account.units)
