"""What a method may say of itself beside the contract in `method`, found with ``isinstance``."""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from pfedmoap.client.privatizer import Privatizer
from pfedmoap.contract.method import AnyMethod
from pfedmoap.contract.tasks import ClientTask
from pfedmoap.wire.messages import Arrays, ClientId


@runtime_checkable
class CanPersonalise(Protocol):
    """A method whose clients tune a personal copy for inference, outside the rounds."""

    def personalise(
        self, tasks: Sequence[ClientTask], privatizer: Privatizer
    ) -> Mapping[ClientId, Arrays]:
        """Make what each client predicts with.

        Nothing of it is uploaded, and no round sees it: it takes the place of the local state in
        `Method.predict` and is then forgotten.

        Args:
            tasks: Of any clients with training data: what the server would send now, what the
                client kept, and its training data.
            privatizer: How gradients are formed.

        Returns:
            Local state for `Method.predict`, by client.
        """
        ...


@runtime_checkable
class CanDecline(Protocol):
    """A method whose clients may be unable to take part, e.g. for lack of a budget.

    Everybody sees who takes part, and no noise covers it. The answer must therefore not depend on a
    client's data: these are not handed over, and of what the client kept it may read only what
    public options and the rounds that it took part in decide.
    """

    def declines(self, local: Arrays | None) -> str | None:
        """Say why a client cannot train in this round; ``None`` where it can.

        Args:
            local: What it kept from its last round; ``None`` the first time.
        """
        ...


@runtime_checkable
class HasOnlyGlobalModel(Protocol):
    """A method whose clients all classify with the global model, so that it need answer once."""

    def impersonal(self) -> bool:
        """Whether `Method.predict` answers as `Method.predict_global` does, for every client."""
        ...


@runtime_checkable
class NeedsServerData(Protocol):
    """A method that can say, before any round, what its setting lacks."""

    def lacks(self) -> str | None:
        """Say what is missing and how to give it; ``None`` where nothing is."""
        ...


@runtime_checkable
class IsBoundToClasses(Protocol):
    """A method whose clients' models mean nothing for other classes than those of training."""

    def class_bond(self) -> str | None:
        """Say why; ``None`` where they carry over."""
        ...


def personal_states(
    method: AnyMethod, tasks: Sequence[ClientTask], privatizer: Privatizer
) -> dict[ClientId, Arrays | None]:
    """What each client predicts with: its local state, or the copy that its method tunes.

    Args:
        method: The method.
        tasks: Of the clients that are about to be evaluated; see `Personalises.personalise`.
        privatizer: How gradients are formed.

    Returns:
        The ``local`` argument of `Method.predict`, by client.
    """
    kept = {task.download.client: task.local for task in tasks}
    if isinstance(method, CanPersonalise):
        return {**kept, **method.personalise(tasks, privatizer)}
    return kept
