"""Counts of clipped vectors, for the private log alone."""

from dataclasses import dataclass, field

from torch import Tensor

from pfedmoap.wire.messages import ClientId


@dataclass
class Tally:
    """How many of each client's vectors were longer than the clipping norm, **without noise**.

    It is not private: it stays with the client or the operator, and no mechanism reads it.
    """

    _longer: dict[ClientId, Tensor] = field(default_factory=dict)
    _all: dict[ClientId, Tensor] = field(default_factory=dict)

    def note(self, client: ClientId, longer: Tensor, present: Tensor) -> None:
        """Count some vectors of a client.

        Args:
            client: Whose they are.
            longer: Which are longer than the norm, (n,) bool.
            present: Which are vectors at all and no padding, (n,) bool.
        """
        self.count(client, (longer & present).sum(), present.sum())

    def count(self, client: ClientId, longer: Tensor, every: Tensor) -> None:
        """Add to the number of a client's vectors, scalars, and of those that were longer."""
        self._longer[client] = longer + self._longer.get(client, 0)
        self._all[client] = every + self._all.get(client, 0)

    def take(self) -> dict[ClientId, float]:
        """Return the share of clipped vectors of each client with vectors, and reset the counts."""
        shares = {
            client: float(self._longer[client] / every)
            for client, every in sorted(self._all.items())
            if int(every)
        }
        self._longer, self._all = {}, {}
        return shares
