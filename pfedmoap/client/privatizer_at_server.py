"""A privatizer's part at the server: who is drawn, and what of the uploads the server's state sees.

Most privatizers work at the clients and leave the server alone (`PlainServer`). Central
differential privacy works here: it draws cohorts in secret and hands one noisy mean to the method
in place of the uploads.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from pfedmoap.wire.messages import Arrays, ClientId, Download, Update


class ServerSide(Protocol):
    """What a privatizer does between the clients' uploads and the server's state."""

    @property
    def secret_cohort(self) -> bool:
        """Whether who takes part must not be published; then only the private log says it."""
        ...

    def draw(
        self, clients: Sequence[ClientId], round: int, scheduled: Sequence[ClientId]
    ) -> tuple[ClientId, ...]:
        """Draw a round's cohort.

        Args:
            clients: All clients, in the order of ids.
            round: The round.
            scheduled: Who takes part by the public schedule; see `draw_cohort`.

        Returns:
            Client ids in ascending order; there may be none.
        """
        ...

    def settle(
        self,
        round: int,
        admitted: Sequence[Update],
        sent: Mapping[ClientId, Download],
        start: Callable[[], Arrays],
    ) -> Sequence[Update]:
        """Make what the method may aggregate of the admitted uploads.

        Args:
            round: The round.
            admitted: Uploads that passed the server's checks, sorted by client id.
            sent: What each client was sent, as it arrived.
            start: Gives what the server would send to any client in this round, of the arrays
                that are uploaded.
        """
        ...

    def state(self) -> Mapping[str, float]:
        """What has to last from round to round; it is logged, so that it must be public."""
        ...

    def restore(self, state: Mapping[str, float]) -> None:
        """Go on from a state that `state` gave after an earlier round."""
        ...


class PlainServer:
    """The null object: the public schedule, and uploads as they come."""

    @property
    def secret_cohort(self) -> bool:
        """The schedule follows from the public seed."""
        return False

    def draw(
        self, clients: Sequence[ClientId], round: int, scheduled: Sequence[ClientId]
    ) -> tuple[ClientId, ...]:
        """Keep to the schedule."""
        del clients, round
        return tuple(scheduled)

    def settle(
        self,
        round: int,
        admitted: Sequence[Update],
        sent: Mapping[ClientId, Download],
        start: Callable[[], Arrays],
    ) -> Sequence[Update]:
        """Aggregate the uploads themselves."""
        del round, sent, start
        return admitted

    def state(self) -> Mapping[str, float]:
        """Nothing lasts."""
        return {}

    def restore(self, state: Mapping[str, float]) -> None:
        """Nothing is restored."""
        del state
