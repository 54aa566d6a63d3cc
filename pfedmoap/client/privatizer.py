"""The privatizer's interface: sampling, gradients and uploads of clients; and `NoPrivacy`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from torch import Tensor

from pfedmoap.client.batches import Batch, BatchPlan, Stream, shuffled_epochs
from pfedmoap.client.device_step import DeviceStep, PlainStep, plain_gradients
from pfedmoap.client.privatizer_at_server import PlainServer, ServerSide
from pfedmoap.client.problem import Problem
from pfedmoap.wire.messages import Arrays, ClientId, Download, Update

Mode = Literal["joint", "decoupled", "release", "central"]


@dataclass(frozen=True)
class PlannedTraining:
    """What a privacy budget has to last for; all of it is public but for the groups.

    Attributes:
        rounds: Rounds of the run.
        epochs: Local epochs in a round.
        batch_size: Examples in a step, as planned.
        groups: Person that each training example belongs to, (n,) by client, for person-level
            privacy; ``None`` if unknown. It decides which examples are sampled together.
        rounds_of_a_client: Rounds of the client that the schedule of cohorts draws most often;
            ``None`` if unknown, in which case it may be every round.
        clients: Clients that can be drawn for a round; empty if unknown.
        participation: Fraction of the clients that takes part in a round.
        local_steps: Steps of a client in a round in place of epochs; ``None`` for epochs.
    """

    rounds: int
    epochs: int
    batch_size: int
    groups: Mapping[ClientId, Tensor] | None = None
    rounds_of_a_client: int | None = None
    clients: tuple[ClientId, ...] = ()
    participation: float = 1.0
    local_steps: int | None = None


@dataclass(frozen=True)
class Authorisation:
    """Which clients may train in a round.

    Attributes:
        allowed: Clients that may train, in the order of ids.
        sat_out: Reason for each client that may not.
        spent: Epsilon that each allowed client has spent after this round.
        charges: How many charges each allowed client's ledger holds, with this round's.
    """

    allowed: tuple[ClientId, ...]
    sat_out: Mapping[ClientId, str] = field(default_factory=dict)
    spent: Mapping[ClientId, float] = field(default_factory=dict)
    charges: Mapping[ClientId, int] = field(default_factory=dict)


class Privatizer(Protocol):
    """Determines how examples are sampled, how gradients are formed, and what is uploaded."""

    @property
    def decoupled(self) -> bool:
        """Whether uploaded parameters must be trained separately from those that stay local.

        The local part is then trained with `NoPrivacy`, after the uploaded part and without
        influence on it.
        """
        ...

    @property
    def server(self) -> ServerSide:
        """The privatizer's server side."""
        ...

    def authorise(
        self, cohort: Sequence[ClientId], round: int, known: Mapping[ClientId, int]
    ) -> Authorisation:
        """Charge the budgets of a round's clients, before anything of the round happens.

        Args:
            cohort: The drawn clients.
            round: The round.
            known: How many charges each client's ledger held when the last round was committed;
                clients that never took part are absent.
        """
        ...

    def batches(
        self,
        sizes: Sequence[int],
        views: int,
        streams: Sequence[Stream],
        epochs: int,
        batch_size: int,
        steps: int | None = None,
    ) -> BatchPlan:
        """Plan the steps of K clients; ``steps``, where they are given, in place of epochs."""
        ...

    def gradients(self, problem: Problem, params: Arrays, batch: Batch) -> tuple[Arrays, Tensor]:
        """Form one step's gradients.

        Args:
            problem: The clients' local problem.
            params: Parameters, each (K, ...).
            batch: The step's examples.

        Returns:
            Gradients like ``params``, and the mean loss of each client, (K,), detached. The loss
            is not private and must not leave the client.
        """
        ...

    def release(self, update: Update, download: Download) -> Update:
        """Transform a client's update into what is uploaded.

        Args:
            update: The update that the method made.
            download: The client's download of this round.
        """
        ...

    def clipped(self) -> Mapping[ClientId, float]:
        """Return the share of each client's vectors that exceeded the clipping norm.

        Counted from private data **without noise**: for the private log, never for an upload.
        Reading it resets the count; it is empty if nothing was clipped.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """State the guarantee as JSON; empty if there is none."""
        ...


@runtime_checkable
class ChargesSteps(Protocol):
    """A privatizer that takes only steps which a ledger was charged for, here or elsewhere.

    One process authorises a round, and hands the charged steps over to the ones that train. A step
    is in one place at a time, so that none is taken twice.
    """

    def hand_over(self, clients: Sequence[ClientId], round: int) -> Mapping[ClientId, int]:
        """Give away the steps that clients have left in a round; none can be taken here then.

        Args:
            clients: The clients.
            round: The round, which was authorised here.

        Returns:
            Steps by client.
        """
        ...

    def take_over(self, steps: Mapping[ClientId, int], round: int) -> None:
        """Take what another process handed over, in place of all that is left here.

        Args:
            steps: Steps by client, charged to the other process's ledgers.
            round: Their round.
        """
        ...

    def note_clipped(self, clipped: Mapping[ClientId, float]) -> None:
        """Take down what `clipped` has returned in a process that trained; for the private log."""
        ...


@runtime_checkable
class HasPrivacyAnalysis(Protocol):
    """A method that states which privacy modes cover its uploads.

    Call `pfedmoap.contract.privacy_analysis.gap_in_analysis`, which also refuses an analysis that
    is inherited and does not cover what a subclass replaces.
    """

    def privacy_gap(self, mode: Mode) -> str | None:
        """Return why a mode would void the guarantee; ``None`` if it holds."""
        ...


def gap_of_one_phase(mode: Mode) -> str | None:
    """Implement `HasPrivacyAnalysis.privacy_gap` if all parameters are trained together.

    Every parameter is then in the private step, so that ``joint`` covers whatever is uploaded, and
    ``release`` covers it if the server sends each array's starting point. ``central`` also
    depends on what the server does with uploads; see `gap_of_averaging`.
    """
    if mode == "central":
        return (
            "its server uses uploads otherwise than through their plain average, so that noise on "
            "the average does not cover what it makes of them. Use `--privacy release`, or a "
            "method that averages, e.g. promptfl"
        )
    if mode == "decoupled":
        return (
            "it trains all of its parameters together; no part of them stays at home and could be "
            "trained apart without noise. Use mode joint"
        )
    return None


def gap_of_averaging(mode: Mode) -> str | None:
    """Implement `HasPrivacyAnalysis.privacy_gap` for one training phase and an averaging server.

    ``aggregate`` depends on uploads only through the mean of each array, and downloads depend only
    on the aggregate: noise on the mean covers everything that is sent.
    """
    return None if mode == "central" else gap_of_one_phase(mode)


class PlainTraining:
    """The part of a privatizer that trains: shuffled epochs, plain gradients, all arrays at once.

    For privatizers that protect what leaves the client, and not each step.
    """

    @property
    def decoupled(self) -> bool:
        """All parameters are trained together."""
        return False

    def batches(
        self,
        sizes: Sequence[int],
        views: int,
        streams: Sequence[Stream],
        epochs: int,
        batch_size: int,
        steps: int | None = None,
    ) -> BatchPlan:
        """Plan ordinary epochs; see `shuffled_epochs`."""
        return shuffled_epochs(sizes, views, streams, epochs, batch_size, steps)

    def gradients(self, problem: Problem, params: Arrays, batch: Batch) -> tuple[Arrays, Tensor]:
        """Compute gradients of the weighted mean loss plus the penalty."""
        return plain_gradients(problem, params, batch)

    @property
    def device_step(self) -> DeviceStep | None:
        """Plain gradients may be captured; those of a class with gradients of its own may not."""
        own = type(self).gradients is PlainTraining.gradients
        return PlainStep() if own else None


class NoPrivacy(PlainTraining):
    """No privacy: all drawn clients train, on shuffled epochs, with plain gradients."""

    def privatizer(
        self, method: object, planned: PlannedTraining, ledgers: Path | None
    ) -> "NoPrivacy":
        """Return itself; implements `PrivacyOptions.privatizer`."""
        del method, planned, ledgers
        return self

    @property
    def server(self) -> ServerSide:
        """The method aggregates uploads unchanged."""
        return PlainServer()

    def authorise(
        self, cohort: Sequence[ClientId], round: int, known: Mapping[ClientId, int]
    ) -> Authorisation:
        """Authorise all drawn clients."""
        del round, known
        return Authorisation(tuple(cohort))

    def release(self, update: Update, download: Download) -> Update:
        """Upload the update unchanged."""
        del download
        return update

    def clipped(self) -> Mapping[ClientId, float]:
        """Return no counts: nothing is clipped."""
        return {}

    def describe(self) -> dict[str, Any]:
        """Return no guarantee."""
        return {}
