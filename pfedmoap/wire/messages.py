"""The messages between server and clients."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NewType

from torch import Tensor

ClientId = NewType("ClientId", int)

Arrays = Mapping[str, Tensor]
"""Named tensors. All state of servers and clients, on disk and on the wire, has this form."""


@dataclass(frozen=True)
class Download:
    """Everything that the server sends to one client in one round.

    Attributes:
        round: The round it is for, counted from 1.
        client: The client it is for.
        arrays: Named tensors, e.g. ``context`` of shape (L, W).
        served: The clients whose experts these arrays hold, for the server's log only: it is not
            transported. ``None`` if the client is sent no experts.
    """

    round: int
    client: ClientId
    arrays: Arrays
    served: tuple[ClientId, ...] | None = None


@dataclass(frozen=True)
class Update:
    """Everything that one client sends to the server in one round.

    Attributes:
        round: The round it answers, counted from 1.
        client: The client that sends it.
        arrays: Named tensors; only the names that the method declares in ``uploads``.
        num_examples: Size of the client's training set, as the weight in averages; ``None``
            where it is withheld (under differential privacy it would be a release).
        metrics: Scalars for the log. Under differential privacy this is empty.
    """

    round: int
    client: ClientId
    arrays: Arrays
    num_examples: int | None
    metrics: Mapping[str, float] = field(default_factory=dict)


def size_bytes(arrays: Arrays) -> int:
    """Bytes of payload that ``arrays`` take on the wire."""
    return sum(tensor.numel() * tensor.element_size() for tensor in arrays.values())
