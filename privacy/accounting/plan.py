"""The number of rounds that one client can take part in, for which noise is calibrated."""

from dataclasses import dataclass

from pfedmoap.client.privatizer import PlannedTraining
from pfedmoap.errors import PrivacyError


@dataclass(frozen=True)
class ClientRounds:
    """The largest number of rounds that one client can take part in; public.

    Attributes:
        count: How many.
        why: What limits it, in words.
    """

    count: int
    why: str


def client_rounds(planned: PlannedTraining, cap: int | None) -> ClientRounds:
    """Bound the rounds of one client by the run's length, its schedule and an option.

    Cohorts follow from the training seed, which is public, so that the bound is known before the
    run and independent of all data. A client that declines or sits out only spends less. No
    amplification is claimed for the draw.

    Args:
        planned: The run's plan.
        cap: ``privacy.max_rounds_per_client``.

    Returns:
        The smallest of the bounds.

    Raises:
        PrivacyError: The cap is not positive.
    """
    check_cap(cap)
    count, why = planned.rounds, "the run has no more rounds"
    drawn = planned.rounds_of_a_client
    if drawn is not None and drawn < count:
        count = drawn
        why = f"the public schedule draws no client for more of the {planned.rounds} rounds"
    if cap is not None and cap < count:
        count = cap
        why = f"a client sits out after {cap} rounds (privacy.max_rounds_per_client)"
    return ClientRounds(count, why)


def check_cap(cap: int | None) -> None:
    """Raise an error for a cap with which no client could take part.

    Raises:
        PrivacyError: It is not positive.
    """
    if cap is not None and cap < 1:
        raise PrivacyError(f"privacy.max_rounds_per_client must be at least 1, got {cap}")
