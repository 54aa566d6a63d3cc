"""A client's query budget at a black-box model: queries made so far, and queries left.

Two sums are kept. The true one counts answers, including repeated requests, and never exceeds the
budget. The public one counts every step as a full batch, whatever data the client has. Only the
public one decides who takes part, because the true one reveals how many examples a client has.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pfedmoap.errors import ConfigError

QUERIES = "queries"  # the client's array of the true sum
RECKONED = "reckoned"  # and of the public one


@dataclass(frozen=True)
class QueryBudget:
    """Queries that one client may have answered in all of its training.

    Attributes:
        limit: How many; ``None`` for no limit (they are still counted).
    """

    limit: int | None

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 0:
            raise ConfigError(f"method.query_budget must not be negative, got {self.limit}")

    def left(self, local: Mapping[str, Tensor] | None) -> int | None:
        """Queries that are left by the true sum; ``None`` for no limit.

        Args:
            local: What the client kept from its last round; ``None`` the first time.
        """
        return None if self.limit is None else self.limit - _kept(local, QUERIES)

    def steps(self, local: Mapping[str, Tensor] | None, price: int, most: int) -> int:
        """How many steps the public sum allows.

        Args:
            local: What the client kept from its last round; ``None`` the first time.
            price: Queries of a step on a full batch.
            most: Steps of a round.
        """
        if self.limit is None or price == 0:
            return most
        return max(0, min(most, (self.limit - _kept(local, RECKONED)) // price))

    def refusal(self, local: Mapping[str, Tensor] | None, price: int) -> str | None:
        """Return why the public sum does not allow another step; ``None`` if it does.

        Args:
            local: What the client kept from its last round; ``None`` the first time.
            price: Queries of a step on a full batch.
        """
        if self.limit is None or self.steps(local, price, 1) == 1:
            return None
        left = self.limit - _kept(local, RECKONED)
        return (
            f"its query budget of {self.limit} is spent: {left} queries are left, and a step on a "
            f"full batch costs {price}"
        )

    def bill(
        self, local: Mapping[str, Tensor] | None, queries: int, reckoned: int
    ) -> dict[str, Tensor]:
        """Return both sums after a round, as part of the local state.

        Args:
            local: What the client kept from its last round; ``None`` the first time.
            queries: Answers that the round has cost.
            reckoned: The same by the public price.
        """
        return {
            QUERIES: torch.tensor(_kept(local, QUERIES) + queries),
            RECKONED: torch.tensor(_kept(local, RECKONED) + reckoned),
        }


def _kept(local: Mapping[str, Tensor] | None, name: str) -> int:
    return 0 if local is None else int(local.get(name, local[QUERIES]))
