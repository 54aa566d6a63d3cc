"""The local training problem of K clients, as a sum of one loss for each example."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol, runtime_checkable

from torch import Tensor

from pfedmoap.client.batches import Batch
from pfedmoap.wire.messages import Arrays

ROWS = "rows"
OF_CLIENTS: Mapping[str, str] = MappingProxyType({ROWS: "clients"})
CONSTANT: Mapping[str, str] = MappingProxyType({ROWS: "none"})
"""Metadata of a problem's fields that hold tensors, or named tensors."""


class Problem(Protocol):
    """The local training problem of K clients, as a sum of one loss for each example.

    The parameters have a leading client axis. `represent` holds all that the examples of a batch
    share (the text features of the prompts) and sees no example; `losses` is one number for each
    example and depends on no other example. This split is what makes per-example gradients cheap,
    and privacy possible.

    A problem is a frozen dataclass. Its fields that hold tensors say what these are, so that one
    captured step serves many batches of clients: ``field(metadata=OF_CLIENTS)`` where they have the
    client axis, ``field(metadata=CONSTANT)`` where they are the same for all; see
    `pfedmoap.client.problem_rows`.
    """

    def represent(self, params: Arrays) -> Arrays:
        """Compute what a client's examples share, by name, each (K, ...)."""
        ...

    def losses(self, params: Arrays, shared: Arrays, features: Arrays, labels: Tensor) -> Tensor:
        """Compute one loss for each example, (K, B)."""
        ...

    def penalty(self, params: Arrays) -> Tensor:
        """Compute each client's regulariser, (K,), which must not depend on the data.

        It is zero unless a problem says otherwise.
        """
        first = next(iter(params.values()))
        return first.new_zeros(len(first))


@runtime_checkable
class BatchWide(Protocol):
    """A problem in which values computed from a whole batch enter each example's loss.

    One example then influences the loss of another, so that no per-example gradient exists:
    privatizers that need one never call `settle`, and a method that relies on it says so in
    `HasPrivacyAnalysis.privacy_gap`.
    """

    def settle(self, params: Arrays, shared: Arrays, batch: Batch) -> Arrays:
        """Compute further shared values from a whole batch, by name, each (K, ...)."""
        ...


@runtime_checkable
class WaitsForDevice(Protocol):
    """A problem whose losses read numbers on the host, so that a GPU cannot capture its steps."""

    @property
    def waits(self) -> str | None:
        """What for; ``None`` if it does not after all."""
        ...
