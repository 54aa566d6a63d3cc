"""A privatizer's server side: how cohorts are drawn, and what is aggregated of the uploads.

Most privatizers work at the clients and change nothing at the server (`PlainServer`). Central
differential privacy works here: it draws cohorts secretly and passes one noisy mean to the method
in place of the uploads.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from pfedmoap.wire.messages import Arrays, ClientId, Download, Update


class ServerSide(Protocol):
    """What a privatizer does between receiving uploads and aggregating them."""

    @property
    def secret_cohort(self) -> bool:
        """Whether the cohort must be kept secret; it is then written to the private log only."""
        ...

    @property
    def bounds_uploads(self) -> bool:
        """Whether `settle` bounds each upload by itself, so that nothing else may.

        A bound that depends on other clients' uploads would change its sensitivity.
        """
        ...

    def draw(
        self, clients: Sequence[ClientId], round: int, scheduled: Sequence[ClientId]
    ) -> tuple[ClientId, ...]:
        """Draw a round's cohort.

        Args:
            clients: All clients, in the order of ids.
            round: The round.
            scheduled: The cohort of the public schedule; see `draw_cohort`.

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
        """Return the updates that the method aggregates, given the admitted uploads.

        Args:
            round: The round.
            admitted: Uploads that passed the server's checks, sorted by client id.
            sent: Each client's download, as it arrived.
            start: Returns the uploaded arrays' values that the server would send to any client in
                this round.
        """
        ...

    def state(self) -> Mapping[str, float]:
        """Return what must persist between rounds; it is logged, so it must be public."""
        ...

    def restore(self, state: Mapping[str, float]) -> None:
        """Restore a state that `state` returned after an earlier round."""
        ...


class PlainServer:
    """No change at the server: the public schedule, and uploads as received."""

    @property
    def secret_cohort(self) -> bool:
        """Return false: the schedule follows from the public seed."""
        return False

    @property
    def bounds_uploads(self) -> bool:
        """Return false: uploads are passed on as they are."""
        return False

    def draw(
        self, clients: Sequence[ClientId], round: int, scheduled: Sequence[ClientId]
    ) -> tuple[ClientId, ...]:
        """Return the public schedule's cohort."""
        del clients, round
        return tuple(scheduled)

    def settle(
        self,
        round: int,
        admitted: Sequence[Update],
        sent: Mapping[ClientId, Download],
        start: Callable[[], Arrays],
    ) -> Sequence[Update]:
        """Return the uploads unchanged."""
        del round, sent, start
        return admitted

    def state(self) -> Mapping[str, float]:
        """Return nothing: there is no state."""
        return {}

    def restore(self, state: Mapping[str, float]) -> None:
        """Do nothing: there is no state."""
        del state
