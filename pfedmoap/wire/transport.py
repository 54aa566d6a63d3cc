"""The transport between server and clients in one process: copies tensors and counts bytes."""

from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

import torch

from pfedmoap.wire.messages import Arrays, ClientId, Download, Update, size_bytes


@dataclass(frozen=True)
class Traffic:
    """Payload bytes that one client and the server exchanged in one round.

    Attributes:
        client: The client.
        down_bytes: By array name, from the server.
        up_bytes: By array name, to the server.
    """

    client: ClientId
    down_bytes: dict[str, int] = field(default_factory=dict)
    up_bytes: dict[str, int] = field(default_factory=dict)


class Transport(Protocol):
    """Transports messages and counts their bytes."""

    def down(self, download: Download) -> Download:
        """Transport a download to its client; returns what arrives."""
        ...

    def up(self, update: Update) -> Update:
        """Transport an update to the server; returns what arrives."""
        ...

    def collect(self) -> list[Traffic]:
        """Return the traffic since the last call, in the order of client ids."""
        ...


class InProcess:
    """Copies tensors as a network would, so that server and clients share no tensor.

    Args:
        precision: Number format of float32 arrays on the wire; ``float16`` halves the traffic and
            rounds what arrives.
    """

    def __init__(self, precision: Literal["float32", "float16"] = "float32") -> None:
        self._dtype = torch.float16 if precision == "float16" else torch.float32
        self._traffic: dict[ClientId, Traffic] = {}

    def down(self, download: Download) -> Download:
        """Transport a download; see `Transport.down`."""
        arrays, sizes = self._carry(download.arrays)
        self._of(download.client).down_bytes.update(sizes)
        return replace(download, arrays=arrays, served=None)

    def up(self, update: Update) -> Update:
        """Transport an update; see `Transport.up`."""
        arrays, sizes = self._carry(update.arrays)
        self._of(update.client).up_bytes.update(sizes)
        return replace(update, arrays=arrays)

    def collect(self) -> list[Traffic]:
        """Return the traffic; see `Transport.collect`."""
        traffic, self._traffic = self._traffic, {}
        return [traffic[client] for client in sorted(traffic)]

    def _of(self, client: ClientId) -> Traffic:
        return self._traffic.setdefault(client, Traffic(client))

    def _carry(self, arrays: Arrays) -> tuple[Arrays, dict[str, int]]:
        arrived, sizes = {}, {}
        for name, array in arrays.items():
            on_wire = array.detach().cpu().clone()
            if on_wire.dtype == torch.float32:
                on_wire = on_wire.to(self._dtype)
            sizes[name] = size_bytes({name: on_wire})
            arrived[name] = on_wire.to(array.dtype)
        return arrived, sizes
