"""The contract of a federated method.

A method is a frozen dataclass whose fields are a `Setting` and the paper's hyperparameters; its
functions take state and return new state. The state of server and clients between rounds is
plain named tensors, so that it can be saved, compared and sent without code of the method.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from pfedmoap.client.privatizer import Privatizer
from pfedmoap.contract.tasks import (
    ArraySpec,
    ClientData,
    ClientResult,
    ClientTask,
    Prediction,
    S,
    Setting,
)
from pfedmoap.wire.messages import Arrays, ClientId, Download, Update


class Method(Protocol[S]):
    """A federated prompt learning method; S is the type of its server state."""

    @property
    def setting(self) -> Setting:
        """The backbone, class names, training options and seed that the method was made with."""
        ...

    @property
    def trains(self) -> bool:
        """Whether there is anything to learn; otherwise one empty round is recorded."""
        ...

    @property
    def features(self) -> tuple[str, ...]:
        """Kinds of image features it needs; see `FrozenCLIP.features`."""
        ...

    @property
    def uploads(self) -> Mapping[str, ArraySpec]:
        """The only arrays that an Update may hold, with what is expected of each."""
        ...

    def init(self) -> S:
        """The server's state before the first round."""
        ...

    def plan(self, state: S, cohort: Sequence[ClientId], round: int) -> list[Download]:
        """Make each client's download from the state at the end of the last round."""
        ...

    def train(self, tasks: Sequence[ClientTask], privatizer: Privatizer) -> list[ClientResult]:
        """Train a cohort of clients, each on its own data; one client is a cohort of one."""
        ...

    def aggregate(self, state: S, updates: Sequence[Update]) -> S:
        """Compute the new state from admitted updates, sorted by client id."""
        ...

    def predict(self, download: Download, local: Arrays | None, features: Arrays) -> Prediction:
        """Classify with one client's personal model.

        Args:
            download: What the server would send this client now.
            local: What the client kept; ``None`` for a client that never took part.
            features: By kind, (B, ...).
        """
        ...

    def predict_global(self, state: S, features: Arrays) -> Prediction | None:
        """Classify with the server's model; ``None`` where the method has none."""
        ...

    def to_arrays(self, state: S) -> Arrays:
        """All of the server's state as named tensors."""
        ...

    def from_arrays(self, arrays: Arrays) -> S:
        """Inverse of `to_arrays`."""
        ...


AnyMethod = Method[Any]  # for code that passes the state on without reading it


def with_server_data(method: AnyMethod, data: ClientData) -> AnyMethod:
    """Return the method with the server's data in its ``setting``."""
    anything: Any = method  # a dataclass by convention, which the protocol cannot express
    made: AnyMethod = replace(anything, setting=replace(anything.setting, server_data=data))
    return made
