"""How well what the server reports about clients fits who is hostile."""

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Any

from pfedmoap.engine.round import RoundResult
from pfedmoap.wire.messages import ClientId


@dataclass(frozen=True)
class Reported:
    """Uploads that the server reported, over all rounds.

    Attributes:
        hostile: Uploads of hostile clients.
        caught: How many of them it reported.
        accused: How many of honest clients it reported.
    """

    hostile: int
    caught: int
    accused: int

    @property
    def precision(self) -> float | None:
        """Share of hostile ones among the reported; ``None`` if none was."""
        return self.caught / (self.caught + self.accused) if self.caught + self.accused else None

    @property
    def recall(self) -> float | None:
        """Share of reported ones among the hostile; ``None`` if there are none."""
        return self.caught / self.hostile if self.hostile else None


def reported(results: Sequence[RoundResult[Any]], attackers: Set[ClientId]) -> Reported:
    """Count the reported uploads: refused, shortened or capped, or not served to others.

    A prompt is screened in the round after the one that it was uploaded in.

    Args:
        results: What the server knows of each round.
        attackers: The hostile clients.
    """
    hostile = caught = accused = 0
    for result in results:
        named = {*result.rejected, *result.screened}
        named |= {*result.bounded.shortened, *result.bounded.capped}
        hostile += len(attackers & set(result.cohort))
        caught += len(named & attackers)
        accused += len(named - attackers)
    return Reported(hostile, caught, accused)
