"""DP-SGD as a privatizer: authorisation, Poisson sampling and noisy steps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeGuard

from torch import Tensor

from pfedmoap.client.batches import Batch, BatchPlan, Stream
from pfedmoap.client.device_step import DeviceStep
from pfedmoap.client.privatizer import Authorisation
from pfedmoap.client.privatizer_at_server import PlainServer, ServerSide
from pfedmoap.client.problem import Problem
from pfedmoap.errors import PrivacyError
from pfedmoap.wire.messages import Arrays, ClientId, Download, Update
from privacy.ledgers.authorisation import charge_cohort
from privacy.ledgers.ledger import Ledgers
from privacy.mechanisms.groups import Groups
from privacy.mechanisms.mechanism import Mechanism, SampledGaussian
from privacy.mechanisms.randomness import Randomness, SecureStream
from privacy.mechanisms.sampling import poisson_batches
from privacy.mechanisms.tally import Tally

Counts = Literal["withheld", "public"]


@dataclass
class StepPrivacy:
    """Clips and noises every gradient step of what is uploaded.

    **Unit**: one training example of one client, or all of one person (``groups``). **Neighbours**:
    add or remove it. **Private**:
    the sequence of everything that the client uploads in the whole run. **Not covered**: accuracy
    figures, timing, and the number of examples where it is declared public.

    Attributes:
        mechanism: Forms the private gradients.
        ledgers: The clients' ledgers; a unit is one noisy step.
        sample_rate: Public sampling rate.
        normaliser: Public number that a step's sum of gradients is divided by.
        decoupled: Whether parameters that are not uploaded are trained separately, without noise.
        counts: Whether uploads state the number of examples.
        randomness: Where samples and noise come from.
        statement: The guarantee in words and figures.
        groups: Whose the examples are, where the unit is a person; ``None`` protects examples.
        tally: Where the mechanism counts what it clips.
    """

    mechanism: Mechanism
    ledgers: Ledgers
    sample_rate: float
    normaliser: float
    decoupled: bool
    counts: Counts
    randomness: Randomness
    statement: dict[str, Any]  # JSON of any shape
    groups: Groups | None = None
    tally: Tally = field(default_factory=Tally)
    _steps_left: dict[tuple[ClientId, int], int] = field(default_factory=dict)
    _clipped_elsewhere: dict[ClientId, float] = field(default_factory=dict)

    @property
    def server(self) -> ServerSide:
        """The server aggregates uploads unchanged: they are private already."""
        return PlainServer()

    def authorise(
        self, cohort: Sequence[ClientId], round: int, known: Mapping[ClientId, int]
    ) -> Authorisation:
        """Charge all steps of the round; see `charge_cohort`."""
        authorisation = charge_cohort(self.ledgers, cohort, round, known)
        steps = self.ledgers.budget.units
        self._steps_left = {(client, round): steps for client in authorisation.allowed}
        return authorisation

    def batches(
        self,
        sizes: Sequence[int],
        views: int,
        streams: Sequence[Stream],
        epochs: int,
        batch_size: int,
        steps: int | None = None,
    ) -> BatchPlan:
        """Plan Poisson batches; the public plan, not the data, says how many."""
        del (
            epochs,
            batch_size,
            steps,
        )  # already in the number of charged steps and in the normaliser
        return poisson_batches(
            sizes,
            views,
            streams,
            steps=self.ledgers.budget.units,
            rate=self.sample_rate,
            normaliser=self.normaliser,
            randomness=self.randomness,
            units=self.groups,
        )

    def gradients(self, problem: Problem, params: Arrays, batch: Batch) -> tuple[Arrays, Tensor]:
        """Form one step's private gradients.

        Raises:
            PrivacyError: A client takes a step that its ledger was not charged for.
        """
        return self.mechanism.gradients(problem, params, batch, self.take_step(batch.streams))

    @property
    def device_step(self) -> DeviceStep | None:
        """The step in two halves, where nothing of it is replaced, as audits do."""
        own = type(self).gradients is StepPrivacy.gradients
        return NoisySteps(self, self.mechanism) if own and is_divided(self.mechanism) else None

    def release(self, update: Update, download: Download) -> Update:
        """Strip the sample count, unless declared public, and all metrics: each is a release."""
        del download
        count = update.num_examples if self.counts == "public" else None
        return replace(update, num_examples=count, metrics={})

    def clipped(self) -> Mapping[ClientId, float]:
        """Return the share of each client's gradients that was clipped in the round."""
        here, elsewhere = self.tally.take(), dict(self._clipped_elsewhere)
        self._clipped_elsewhere.clear()
        return {**elsewhere, **here}

    def hand_over(self, clients: Sequence[ClientId], round: int) -> Mapping[ClientId, int]:
        """See `ChargesSteps`."""
        return {client: self._steps_left.pop((client, round), 0) for client in clients}

    def take_over(self, steps: Mapping[ClientId, int], round: int) -> None:
        """See `ChargesSteps`."""
        self._steps_left = {(client, round): left for client, left in steps.items()}

    def note_clipped(self, clipped: Mapping[ClientId, float]) -> None:
        """See `ChargesSteps`."""
        self._clipped_elsewhere.update(clipped)

    def describe(self) -> dict[str, Any]:
        """State the guarantee."""
        return self.statement

    def take_step(self, streams: Sequence[Stream]) -> list[SecureStream]:
        """Take a step of each client from what its ledger was charged for; returns its noise.

        Raises:
            PrivacyError: A client takes a step that its ledger was not charged for.
        """
        return [self._take_step(stream) for stream in streams]

    def _take_step(self, stream: Stream) -> SecureStream:
        who = (stream.client, stream.round)
        left = self._steps_left.get(who, 0)
        if left == 0:
            raise PrivacyError(
                f"client {stream.client} takes a step in round {stream.round} that its ledger was "
                "not charged for: authorise the round first, and train what is uploaded once"
            )
        self._steps_left[who] = left - 1
        return self.randomness.stream("noise", *who, left)


def is_divided(mechanism: Mechanism) -> TypeGuard[SampledGaussian]:
    """Whether a mechanism draws on the host and computes on the device; broken ones do not."""
    return type(mechanism) is SampledGaussian


@dataclass(frozen=True)
class NoisySteps:
    """Private steps in two halves: charges and noise on the host, gradients on the device.

    Attributes:
        privacy: Whose steps they are.
        mechanism: Forms the gradients.
    """

    privacy: StepPrivacy
    mechanism: SampledGaussian

    def blank(self, params: Arrays) -> Arrays:
        """See `DeviceStep.blank`."""
        return self.mechanism.blank(params)

    def draw(self, params: Arrays, streams: Sequence[Stream]) -> Arrays:
        """Charge a step and draw its noise; see `DeviceStep.draw`."""
        return self.mechanism.draw(params, streams, self.privacy.take_step(streams))

    def gradients(
        self, problem: Problem, params: Arrays, batch: Batch, drawn: Arrays
    ) -> tuple[Arrays, Tensor, Arrays]:
        """See `DeviceStep.gradients`."""
        return self.mechanism.form(problem, params, batch, drawn)

    def note(self, streams: Sequence[Stream], found: Arrays) -> None:
        """Count what was clipped; see `DeviceStep.note`."""
        self.mechanism.note(streams, found)
