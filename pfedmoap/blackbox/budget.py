"""A client's bill with the model's owner: what it has asked so far, and what it may still ask."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pfedmoap.errors import ConfigError

QUERIES = "queries"  # name of the one array that a client keeps


@dataclass(frozen=True)
class QueryBudget:
    """Queries that one client may have answered in all of its training.

    Attributes:
        limit: How many; ``None`` for no limit, but they are counted all the same.
    """

    limit: int | None

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 0:
            raise ConfigError(f"method.query_budget must not be negative, got {self.limit}")

    def left(self, local: Mapping[str, Tensor] | None) -> int | None:
        """Queries that are left; ``None`` for no limit.

        Args:
            local: What the client kept from its last round; ``None`` the first time.
        """
        return None if self.limit is None else self.limit - _spent(local)

    def refusal(self, local: Mapping[str, Tensor] | None, cost: int) -> str | None:
        """Say why a step cannot be paid; ``None`` where it can.

        Args:
            local: What the client kept from its last round; ``None`` the first time.
            cost: Queries of the step.
        """
        left = self.left(local)
        if left is None or cost <= left:
            return None
        return (
            f"its query budget of {self.limit} is spent: {left} queries are left, and a step "
            f"costs {cost}"
        )

    def bill(self, local: Mapping[str, Tensor] | None, queries: int) -> dict[str, Tensor]:
        """The client's bill after so many more queries, to be kept."""
        return {QUERIES: torch.tensor(_spent(local) + queries)}


def _spent(local: Mapping[str, Tensor] | None) -> int:
    return 0 if local is None else int(local[QUERIES])
