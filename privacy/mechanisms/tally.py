"""Counts of clipped vectors, for the private log alone."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from pfedmoap.wire.messages import ClientId


@dataclass
class Tally:
    """How many of each client's vectors were longer than the clipping norm, **without noise**.

    It is not private: it stays with the client or the operator, and no mechanism reads it.
    """

    _counts: list[tuple[tuple[ClientId, ...], Tensor, Tensor]] = field(default_factory=list)

    def note(self, client: ClientId, longer: Tensor, present: Tensor) -> None:
        """Count some vectors of a client.

        Args:
            client: Whose they are.
            longer: Which are longer than the norm, (n,) bool.
            present: Which are vectors at all and no padding, (n,) bool.
        """
        self.count((client,), (longer & present).sum()[None], present.sum()[None])

    def count(self, clients: Sequence[ClientId], longer: Tensor, every: Tensor) -> None:
        """Add what was counted of K clients; nothing waits for the device before it is read.

        Args:
            clients: The clients.
            longer: How many of each one's vectors are longer than the norm, (K,).
            every: How many vectors each one has, (K,).
        """
        self._counts.append((tuple(clients), longer, every))

    def take(self) -> dict[ClientId, float]:
        """Return the share of clipped vectors of each client with vectors, and reset the counts."""
        longer: dict[ClientId, int] = {}
        every: dict[ClientId, int] = {}
        for clients, above, counted in self._counts:
            for client, some, these in zip(clients, above.tolist(), counted.tolist(), strict=True):
                longer[client] = longer.get(client, 0) + some
                every[client] = every.get(client, 0) + these
        self._counts = []
        return {client: longer[client] / count for client, count in sorted(every.items()) if count}
