"""Optional capabilities of a method beside the contract in `method`, found with ``isinstance``."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

from pfedmoap.client.privatizer import Privatizer
from pfedmoap.contract.method import AnyMethod
from pfedmoap.contract.tasks import ClientTask, Prediction
from pfedmoap.wire.messages import Arrays, ClientId, Download

State = TypeVar("State", contravariant=True)


@runtime_checkable
class CanPersonalise(Protocol):
    """A method whose clients tune a personal copy for inference, outside the rounds."""

    def personalise(
        self, tasks: Sequence[ClientTask], privatizer: Privatizer
    ) -> Mapping[ClientId, Arrays]:
        """Compute the local state that each client predicts with.

        Nothing of it is uploaded or used in a later round: it replaces the local state in
        `Method.predict` and is then discarded.

        Args:
            tasks: Tasks of any clients with training data: what the server would send now, what
                the client kept, and its training data.
            privatizer: How gradients are formed.

        Returns:
            Local state for `Method.predict`, by client.
        """
        ...


@runtime_checkable
class CanDecline(Protocol):
    """A method whose clients may be unable to take part, e.g. for lack of a budget.

    Participation is public, and no noise covers it. The answer must therefore not depend on a
    client's data: they are not an argument, and of the local state it may read only what follows
    from public options and from the rounds that the client took part in.
    """

    def declines(self, local: Arrays | None) -> str | None:
        """Return why a client cannot train in this round; ``None`` if it can.

        Args:
            local: The client's state after its last round; ``None`` before its first.
        """
        ...


@runtime_checkable
class HasOnlyGlobalModel(Protocol):
    """A method whose clients all classify with the global model, which is then evaluated once."""

    def impersonal(self) -> bool:
        """Whether `Method.predict` answers as `Method.predict_global` does, for every client."""
        ...


@runtime_checkable
class SendsGlobalModel(Protocol):
    """A method whose downloads hold all of the global model, so that sites can test it at home."""

    def predict_sent(self, download: Download, features: Arrays) -> Prediction | None:
        """Classify as `Method.predict_global` does, by what a client is sent alone.

        Args:
            download: What the server would send some client now.
            features: By kind, (B, ...).
        """
        ...


@runtime_checkable
class NeedsServerData(Protocol):
    """A method that may need data at the server, which its setting may lack."""

    def lacks(self) -> str | None:
        """Return what is missing and how to provide it; ``None`` if nothing is."""
        ...


@runtime_checkable
class StartsElsewhere(Protocol[State]):
    """A method whose clients may train from other values than those that they are sent.

    Bounds on how far an upload moves are then measured from there.
    """

    def starts(self, state: State, client: ClientId) -> Arrays:
        """Return where a client's uploads start from, as far as the server knows it.

        Args:
            state: The server's state at the end of the last round.
            client: The client.

        Returns:
            Values by uploaded array; those that are missing start from what was sent.
        """
        ...


@runtime_checkable
class ServesExperts(Protocol[State]):
    """A method whose server serves clients' prompts to others, as ``setting.pool`` says."""

    def screened(self, state: State) -> Mapping[ClientId, str]:
        """Return why a client's prompt is served to nobody, by client; for the round's record.

        Args:
            state: The server's state at the end of the last round.
        """
        ...

    def searched(self, state: State) -> Mapping[str, float]:
        """Return what is known of an approximate search: its ``recall``, and if it is in use.

        Args:
            state: The server's state after the round; empty where neighbours are exact.
        """
        ...


@runtime_checkable
class AveragesByRule(Protocol):
    """A method that says whether its server averages by the rule of the server's options.

    A method without it is taken for one whose server does not. See `refuse_unread_options`.
    """

    def aggregation_gap(self) -> str | None:
        """Return why another rule than the mean would change nothing; ``None`` if it is followed.

        What is averaged goes through `pfedmoap.server.aggregation.combine` then, with
        ``setting.server``.
        """
        ...


@runtime_checkable
class IsBoundToClasses(Protocol):
    """A method whose client models are valid only for the classes that they were trained on."""

    def class_bond(self) -> str | None:
        """Return the reason; ``None`` if the models are valid for other classes."""
        ...


@runtime_checkable
class CanForget(Protocol):
    """A method that keeps something of single clients, which it can erase when one leaves.

    What averages hold of a client stays: erasing it would take training anew.
    """

    def forget(self, state: Any, client: ClientId) -> Any:
        """Erase a client from the server's state, which is of the method's own type.

        Args:
            state: The server's state.
            client: Who has left.

        Returns:
            The state without what was the client's alone.
        """
        ...

    def forget_local(self, local: Arrays, client: ClientId) -> Arrays:
        """Erase what another client holds of one that has left.

        Args:
            local: The other client's state.
            client: Who has left.

        Returns:
            The state; each array that had nothing of the client is the same object.
        """
        ...


def personal_states(
    method: AnyMethod, tasks: Sequence[ClientTask], privatizer: Privatizer
) -> dict[ClientId, Arrays | None]:
    """Return what each client predicts with: its local state, or the copy that its method tunes.

    Args:
        method: The method.
        tasks: Tasks of the clients to be evaluated; see `CanPersonalise.personalise`.
        privatizer: How gradients are formed.

    Returns:
        The ``local`` argument of `Method.predict`, by client.
    """
    kept = {task.download.client: task.local for task in tasks}
    if isinstance(method, CanPersonalise):
        return {**kept, **method.personalise(tasks, privatizer)}
    return kept
