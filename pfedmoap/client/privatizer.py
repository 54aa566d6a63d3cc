"""How gradients are formed: the local problem of K clients, and the privatizer's place in it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from pfedmoap.client.batches import Batch, BatchPlan, Stream, shuffled_epochs
from pfedmoap.client.privatizer_at_server import PlainServer, ServerSide
from pfedmoap.client.problem import BatchWide, Problem
from pfedmoap.wire.messages import Arrays, ClientId, Download, Update

Mode = Literal["joint", "decoupled", "release", "central"]


@dataclass(frozen=True)
class PlannedTraining:
    """What a privacy budget has to last for; all of it is public but for the groups.

    Attributes:
        rounds: Rounds of the run.
        epochs: Local epochs in a round.
        batch_size: Examples in a step, as planned.
        groups: Whose each training example is, (n,) by client, for a guarantee for people; ``None``
            where nobody knows. It decides who is drawn with whom, and nothing else.
        rounds_of_a_client: Rounds of the client that the schedule of cohorts draws most often;
            none where that is not known, and may be every round.
        clients: Who can be drawn for a round; empty where that is not known.
        participation: Fraction of the clients that takes part in a round.
    """

    rounds: int
    epochs: int
    batch_size: int
    groups: Mapping[ClientId, Tensor] | None = None
    rounds_of_a_client: int | None = None
    clients: tuple[ClientId, ...] = ()
    participation: float = 1.0


@dataclass(frozen=True)
class Authorisation:
    """Who may train in a round.

    Attributes:
        allowed: Clients that may, in the order of ids.
        sat_out: Why each of the others may not.
        spent: Epsilon that each allowed client has spent when this round is over.
        charges: How many charges each allowed client's ledger holds, with this round's.
    """

    allowed: tuple[ClientId, ...]
    sat_out: Mapping[ClientId, str] = field(default_factory=dict)
    spent: Mapping[ClientId, float] = field(default_factory=dict)
    charges: Mapping[ClientId, int] = field(default_factory=dict)


class Privatizer(Protocol):
    """Decides how examples are sampled, what a gradient step may know of them, and what leaves."""

    @property
    def decoupled(self) -> bool:
        """Whether what is uploaded must be trained apart from what stays at home.

        The part that stays at home is then trained with `NoPrivacy`, after the other part and
        without an influence on it.
        """
        ...

    @property
    def server(self) -> ServerSide:
        """Its part at the server."""
        ...

    def authorise(
        self, cohort: Sequence[ClientId], round: int, known: Mapping[ClientId, int]
    ) -> Authorisation:
        """Charge the budgets of a round's clients, before anything of the round happens.

        Args:
            cohort: Who was drawn.
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
    ) -> BatchPlan:
        """Plan the steps of K clients."""
        ...

    def gradients(self, problem: Problem, params: Arrays, batch: Batch) -> tuple[Arrays, Tensor]:
        """Form one step's gradients.

        Args:
            problem: The clients' local problem.
            params: Parameters, each (K, ...).
            batch: The step's examples.

        Returns:
            Gradients like ``params``, and the mean loss of each client, (K,), detached. The loss
            is for the client's own eyes.
        """
        ...

    def release(self, update: Update, download: Download) -> Update:
        """Make what really leaves a client of what it would upload.

        Args:
            update: What the method made.
            download: What the client was sent in this round.
        """
        ...

    def clipped(self) -> Mapping[ClientId, float]:
        """Tell which share of a client's clipped vectors was longer than the clipping norm.

        Counted from private data **without noise**: for the private log, never for an upload.
        Reading it begins the count anew; it is empty where nothing was clipped.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """State the guarantee, as JSON of any shape; empty where there is none."""
        ...


@runtime_checkable
class HasPrivacyAnalysis(Protocol):
    """A method that knows under which privacy modes its uploads are covered."""

    def privacy_gap(self, mode: Mode) -> str | None:
        """Say why a mode would void the guarantee; ``None`` where it holds."""
        ...


def gap_of_one_phase(mode: Mode) -> str | None:
    """Answer `Analysed.privacy_gap` for methods that train all their parameters together.

    Every parameter is then in the private step, so that ``joint`` covers whatever is uploaded, and
    ``release`` covers it where the server sends each array's starting point. What the server does
    with uploads is the method's to say; see `gap_of_averaging`.
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
    """Answer `Analysed.privacy_gap` for methods of one phase whose server averages.

    Their ``aggregate`` sees uploads through the mean of each array alone, whoever sent them, and
    what goes down to clients comes from the aggregate alone: noise on the mean covers it all.
    """
    return None if mode == "central" else gap_of_one_phase(mode)


def gap_of_the_unknown(base: type) -> str:
    """Answer `Analysed.privacy_gap` for methods that train otherwise than their base."""
    return (
        f"it replaces `train` of {base.__name__}, whose analysis does not cover what it does "
        "instead: give the method a privacy_gap of its own"
    )


class NoPrivacy:
    """The null object: everybody may train, on shuffled epochs, with plain gradients."""

    def privatizer(
        self, method: object, planned: PlannedTraining, ledgers: Path | None
    ) -> "NoPrivacy":
        """Take the place of privacy options that make a privatizer."""
        del method, planned, ledgers
        return self

    @property
    def decoupled(self) -> bool:
        """All parameters are trained together."""
        return False

    @property
    def server(self) -> ServerSide:
        """The server does as the method says."""
        return PlainServer()

    def authorise(
        self, cohort: Sequence[ClientId], round: int, known: Mapping[ClientId, int]
    ) -> Authorisation:
        """Let everybody in."""
        del round, known
        return Authorisation(tuple(cohort))

    def batches(
        self,
        sizes: Sequence[int],
        views: int,
        streams: Sequence[Stream],
        epochs: int,
        batch_size: int,
    ) -> BatchPlan:
        """Plan ordinary epochs; see `shuffled_epochs`."""
        return shuffled_epochs(sizes, views, streams, epochs, batch_size)

    def gradients(self, problem: Problem, params: Arrays, batch: Batch) -> tuple[Arrays, Tensor]:
        """Differentiate the weighted mean loss plus the penalty."""
        leaves = {name: value.detach().requires_grad_() for name, value in params.items()}
        shared = problem.represent(leaves)
        if isinstance(problem, BatchWide):
            shared = {**shared, **problem.settle(leaves, shared, batch)}
        each = problem.losses(leaves, shared, batch.features, batch.labels)
        loss = (each * batch.weight).sum(1)
        total = (loss + problem.penalty(leaves)).sum()
        found = torch.autograd.grad(total, list(leaves.values()))
        return dict(zip(leaves, found, strict=True)), loss.detach()

    def release(self, update: Update, download: Download) -> Update:
        """Upload as it is."""
        del download
        return update

    def clipped(self) -> Mapping[ClientId, float]:
        """Clip nothing."""
        return {}

    def describe(self) -> dict[str, Any]:
        """Promise nothing."""
        return {}
