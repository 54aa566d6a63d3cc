"""The state of FedSP's server, and a client's arrays at the beginning of its round."""

from dataclasses import dataclass

import torch

from pfedmoap.contract.tasks import ClientTask
from pfedmoap.errors import MethodError
from pfedmoap.methods.fedsp.problems import AUXILIARY, PREFIX
from pfedmoap.methods.fedsp.stages import OPTIMISER
from pfedmoap.models.protected.naming import named, part_of
from pfedmoap.wire.messages import Arrays, ClientId, Download


@dataclass(frozen=True)
class State:
    """The server's state.

    Attributes:
        prefix: The prefix by part, (layers, 2, p, W).
        auxiliary: The distilled weights, as every client is first given them.
        equipped: Clients that have them.
        optimiser: State of the server's own optimiser; empty before its first step.
    """

    prefix: Arrays
    auxiliary: Arrays
    equipped: frozenset[ClientId]
    optimiser: Arrays

    def to_arrays(self) -> Arrays:
        """All of it as named tensors."""
        return {
            **named(PREFIX, self.prefix),
            **named(AUXILIARY, self.auxiliary),
            **named(OPTIMISER, self.optimiser),
            "equipped": torch.tensor(sorted(self.equipped), dtype=torch.int64),
        }

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> "State":
        """Inverse of `to_arrays`."""
        return cls(
            part_of(PREFIX, arrays),
            part_of(AUXILIARY, arrays),
            frozenset(ClientId(client) for client in arrays["equipped"].tolist()),
            part_of(OPTIMISER, arrays),
        )


def starting_arrays(task: ClientTask) -> Arrays:
    """Return a client's arrays at the beginning of its round, ``prefix.*`` and ``auxiliary.*``."""
    prefix = named(PREFIX, part_of(PREFIX, task.download.arrays))
    return prefix | named(AUXILIARY, auxiliary_weights(task.download, task.local))


def auxiliary_weights(download: Download, local: Arrays | None) -> Arrays:
    """Return a client's own auxiliary weights, or those that it has just been sent.

    Raises:
        MethodError: It has neither.
    """
    found = part_of(AUXILIARY, local or {}) or part_of(AUXILIARY, download.arrays)
    if not found:
        raise MethodError(
            f"client {download.client} took part before, but its local state with its "
            "auxiliary model is not here: continue from a run directory that holds it"
        )
    return found
