"""One site of a federation: it trains and tests on its own data, and says as little as it may."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from pfedmoap.client.privatizer import Privatizer
from pfedmoap.contract.capabilities import CanDecline
from pfedmoap.contract.method import AnyMethod
from pfedmoap.contract.tasks import ClientData, ClientTask
from pfedmoap.engine.flower.letters import Answer, Order
from pfedmoap.engine.flower.site_state import SiteState
from pfedmoap.errors import PFedMoAPError, UpdateRejectedError
from pfedmoap.wire.messages import Arrays, ClientId, Download

logger = logging.getLogger(__name__)

Scores = Callable[[Download, Arrays | None], Mapping[str, float]]
"""Tests the site's model: what the server would send it now, and what the site keeps."""


@dataclass(frozen=True)
class Site:
    """One site's part of a federation.

    Attributes:
        federation: The federation's id.
        client: The site's number in it.
        method: The method, made from what the server published.
        data: The site's training data.
        privatizer: Made by the site itself, within its own limits; charges its own ledger.
        state: What the site keeps.
        scores: Tests the site's model on its own test images.
        private: Whether differential privacy is promised: nothing about data but the update, which
            noise covers, then leaves the site.
    """

    federation: str
    client: ClientId
    method: AnyMethod
    data: ClientData
    privatizer: Privatizer
    state: SiteState
    scores: Scores
    private: bool = False

    def train(self, order: Order, arrays: Arrays) -> tuple[Answer, Arrays]:
        """Train one round; the privacy ledger is charged before anything else.

        The new state is on disk before the update leaves.

        Args:
            order: The server's order.
            arrays: Its download.

        Returns:
            The answer and the arrays of the update; no arrays where the site sits out.

        Raises:
            UpdateRejectedError: The order is not for this site.
        """
        answer = self._answer(order)
        try:
            local = self.state.load(order.committed)
            if isinstance(self.method, CanDecline):
                why = self.method.declines(local)
                if why is not None:
                    return replace(answer, sat_out=why), {}
            charged = self.state.charges or (0 if local is None else 1)
            known = {self.client: charged} if charged else {}
            authorised = self.privatizer.authorise([self.client], order.round, known)
            if self.client not in authorised.allowed:
                return replace(answer, sat_out=authorised.sat_out[self.client]), {}
            download = Download(order.round, self.client, arrays)
            [result] = self.method.train([ClientTask(download, local, self.data)], self.privatizer)
            update = self.privatizer.release(result.update, download)
        except PFedMoAPError as error:
            return replace(answer, sat_out=self._reason(error)), {}
        charges = authorised.charges.get(self.client, 0)
        self.state.save(order.round, order.committed, result.local, result.lasting, charges)
        answer = replace(
            answer,
            num_examples=update.num_examples,
            metrics=dict(update.metrics),
            epsilon=authorised.spent.get(self.client),
        )
        return answer, update.arrays

    def evaluate(self, order: Order, arrays: Arrays) -> Answer:
        """Test the site's model; the figures leave the site only where no privacy is promised.

        Args:
            order: The server's order.
            arrays: What it would send to train with in this round.

        Returns:
            The answer.

        Raises:
            UpdateRejectedError: The order is not for this site.
        """
        answer = self._answer(order)
        try:
            local = self.state.load(order.committed)
            scores = self.scores(Download(order.round, self.client, arrays), local)
        except PFedMoAPError as error:
            return replace(answer, sat_out=self._reason(error))
        return answer if self.private else replace(answer, scores=dict(scores))

    def _answer(self, order: Order) -> Answer:
        if (order.federation, order.client) != (self.federation, self.client):
            raise UpdateRejectedError(
                f"the order is for client {order.client} of federation {order.federation!r:.60}; "
                f"this site is client {self.client} of {self.federation!r}"
            )
        return Answer(order.federation, order.client, order.round, order.nonce)

    def _reason(self, error: PFedMoAPError) -> str:
        """Say why the site failed; under privacy its message stays in the site's own log."""
        logger.warning("%s", error)
        if self.private:
            return "the site could not do it; its own log says why"
        return f"{type(error).__name__}: {error}"[:900]
