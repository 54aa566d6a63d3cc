"""A transport that records all messages, for an auditor of uploads."""

from dataclasses import dataclass

from torch import Tensor

from pfedmoap.errors import PrivacyError
from pfedmoap.wire.messages import ClientId, Download, Update
from pfedmoap.wire.transport import InProcess
from privacy.auditing.planted import PROMPT


@dataclass(frozen=True)
class Exchange:
    """What one client and the server exchanged in one round, as an adversary sees it.

    Attributes:
        client: The client.
        start: The prompt that it was sent, (L, W).
        upload: The prompt that it sent back, (L, W).
    """

    client: ClientId
    start: Tensor
    upload: Tensor


class Wiretap(InProcess):
    """A transport that keeps a copy of every prompt."""

    def __init__(self) -> None:
        super().__init__()
        self.exchanges: list[Exchange] = []
        self._sent: dict[ClientId, Tensor] = {}

    def down(self, download: Download) -> Download:
        """Transport a download; see `InProcess.down`."""
        arrived = super().down(download)
        if PROMPT not in arrived.arrays:
            raise PrivacyError("the audit reads uploaded prompts: use a method that exchanges them")
        self._sent[download.client] = arrived.arrays[PROMPT].clone()
        return arrived

    def up(self, update: Update) -> Update:
        """Transport an update; see `InProcess.up`."""
        arrived = super().up(update)
        sent = self._sent[update.client]
        self.exchanges.append(Exchange(update.client, sent, arrived.arrays[PROMPT].clone()))
        return arrived
