"""Local problems of FedSP: with the auxiliary model on clients, with the full model on the server.

Parameters are named by what they belong to, ``prefix.*`` and ``auxiliary.*``, so that one problem
serves a stage that trains the one, the other, or both.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from pfedmoap.client.problem import OF_CLIENTS, Problem
from pfedmoap.models.protected.interface import AuxiliaryModel, ProtectedModel
from pfedmoap.models.protected.naming import part_of
from pfedmoap.wire.messages import Arrays

PREFIX, AUXILIARY = "prefix", "auxiliary"


@dataclass(frozen=True)
class AuxiliaryProblem(Problem):
    """One stage of K clients.

    Attributes:
        model: The form of their model.
        frozen: The arrays that are constant in this stage, each (K, ...).
    """

    model: AuxiliaryModel
    frozen: Arrays = field(default_factory=dict, metadata=OF_CLIENTS)

    @property
    def waits(self) -> str | None:
        """See `WaitsForDevice`: sequences are cut by what they hold."""
        return _waits(self.model)

    def represent(self, params: Arrays) -> Arrays:
        """Compute what examples share."""
        everything = {**self.frozen, **params}
        return self.model.represent(part_of(AUXILIARY, everything), part_of(PREFIX, everything))

    def losses(self, params: Arrays, shared: Arrays, features: Arrays, labels: Tensor) -> Tensor:
        """One loss an example, (K, B)."""
        everything = {**self.frozen, **params}
        weights, prefix = part_of(AUXILIARY, everything), part_of(PREFIX, everything)
        return self.model.losses(weights, prefix, shared, features, labels)


@dataclass(frozen=True)
class ServerProblem(Problem):
    """The server's step: the same prefix inside the full model.

    Attributes:
        model: The full model.
    """

    model: ProtectedModel

    @property
    def waits(self) -> str | None:
        """See `WaitsForDevice`: sequences are cut by what they hold."""
        return _waits(self.model.auxiliary)

    def represent(self, params: Arrays) -> Mapping[str, Tensor]:
        """Compute what examples share."""
        return self.model.represent(part_of(PREFIX, params))

    def losses(self, params: Arrays, shared: Arrays, features: Arrays, labels: Tensor) -> Tensor:
        """One loss an example, (1, B)."""
        return self.model.losses(part_of(PREFIX, params), shared, features, labels)


def _waits(model: AuxiliaryModel) -> str | None:
    """What hinders per-example gradients hinders captured steps: sequences cut to the longest."""
    return "its sequences are cut to the longest of a batch" if model.step_gap is not None else None
