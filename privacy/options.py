"""Options of ``--privacy``, which make a privatizer from a budget and a plan."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pfedmoap.client.privatizer import Mode, PlannedTraining
from pfedmoap.config.bounds import Bounds, Count, Fraction, Positive
from pfedmoap.contract.method import AnyMethod
from pfedmoap.contract.privacy_analysis import gap_in_analysis
from pfedmoap.errors import PrivacyError
from privacy import statements
from privacy.accounting.epsilon import (
    LARGEST_DELTA,
    LARGEST_EPSILON,
    SMALLEST_DELTA,
    SMALLEST_EPSILON,
    check_accountant,
    gaussian_epsilon,
    gaussian_noise,
    sampled_gaussian_epsilon,
    sampled_gaussian_noise,
)
from privacy.accounting.plan import check_cap, client_rounds
from privacy.checks import (
    Noise,
    Norm,
    Rate,
    check_options,
    check_rate,
    make_randomness,
    warn_of_delta,
    warn_where_short,
)
from privacy.ledgers.ledger import Budget, Ledgers
from privacy.mechanisms.adaptive_clipping import adaptive_clipping
from privacy.mechanisms.clipping import Rule
from privacy.mechanisms.groups import Unit, groups_of
from privacy.mechanisms.mechanism import SampledGaussian
from privacy.mechanisms.sgd import Counts, StepPrivacy
from privacy.mechanisms.tally import Tally
from privacy.mechanisms.upload import UploadPrivacy


@dataclass(frozen=True)
class DPSGD:
    """Private gradient steps: each example is clipped and noise is added in every step.

    **Unit**: one training example of one client, or with ``unit`` ``group`` all training examples
    of one person at one client. **Neighbours**: add or remove it. A client takes
    ``epochs / sample_rate`` steps a round and divides by ``training.batch_size``, whatever it has.

    Attributes:
        epsilon: Budget of each client over the whole run.
        delta: Delta of the guarantee; well below one over the number of a client's examples.
        max_grad_norm: Clipping norm of one example's gradient over all private parameters; where
            clipping adapts, that of the first step of each round.
        clipping: ``fixed`` keeps that norm; ``adaptive`` lets each client's follow a quantile of
            the gradients' lengths from step to step, at the price of a little more noise.
        target_quantile: Share of the gradients that shall not be clipped, where clipping adapts.
        clip_learning_rate: Step size of the norm's logarithm, where clipping adapts.
        count_noise_std: Noise on the number of unclipped gradients, where clipping adapts; none
            takes what costs the sum at most 3 % more noise.
        mode: ``joint`` noises prompt and gate; ``decoupled`` noises only the prompt, trained
            separately from a gate that is not uploaded; none takes ``decoupled`` where possible.
        sample_rate: Public probability of each example to be in a step.
        accountant: ``pld`` is tight; ``rdp`` and ``prv`` check it, and hold, too.
        noise_multiplier: Noise in multiples of the clipping norm; none takes the least that lasts
            for all rounds that a client can take part in. With less than that, clients sit out
            once ``epsilon`` is spent.
        counts: Whether uploads state the number of examples: ``withheld`` or declared ``public``.
        unit: What is drawn, clipped and protected as one: an ``example``, or a ``group``: all
            training images of one person at one client; the data must say whose each image is.
        max_per_group: Most images of one person that train at a client, the first ones in the
            order of the data; none takes all. The guarantee holds for any number.
        memory_bytes: Bound on the memory of per-example gradients.
        max_rounds_per_client: Rounds after which a client sits out; none lets it take part whenever
            it is drawn. Fewer rounds need less noise.
        ledgers: Folder of ledgers that several runs on the same clients share, so that all of them
            together stay within the budget; none keeps those of this run alone in its folder.
        insecure_seed: Seed of samples and noise, for tests: the result is then NOT private.
    """

    epsilon: Annotated[float, Bounds(ge=SMALLEST_EPSILON, le=LARGEST_EPSILON)] = 8.0
    delta: Annotated[float, Bounds(ge=SMALLEST_DELTA, lt=LARGEST_DELTA)] = 1e-5
    max_grad_norm: Norm = 1.0
    clipping: Rule = "fixed"
    target_quantile: Fraction = 0.5
    clip_learning_rate: Positive = 0.2
    count_noise_std: Positive | None = None
    mode: Literal["joint", "decoupled"] | None = None
    sample_rate: Rate = 0.25
    accountant: str = "pld"  # not a Literal, so that the removed one has its own error message
    noise_multiplier: Noise | None = None
    counts: Counts = "withheld"
    unit: Unit = "example"
    max_per_group: Count | None = None
    memory_bytes: Annotated[int, Bounds(ge=1)] = 2**30
    max_rounds_per_client: Count | None = None
    ledgers: str | None = None
    insecure_seed: int | None = None

    def __post_init__(self) -> None:
        check_options(self.epsilon, self.delta, self.noise_multiplier, self.max_grad_norm)
        check_accountant(self.accountant)
        check_cap(self.max_rounds_per_client)
        check_rate(self.sample_rate, "privacy.sample_rate")
        if self.max_per_group is not None and (self.unit != "group" or self.max_per_group < 1):
            raise PrivacyError(
                f"privacy.max_per_group is {self.max_per_group} with privacy.unit {self.unit!r}: "
                "it must be at least 1, and needs --privacy.unit group"
            )
        if self.memory_bytes < 1:
            raise PrivacyError(f"privacy.memory_bytes must be positive, got {self.memory_bytes}")

    def privatizer(
        self, method: AnyMethod, planned: PlannedTraining, ledgers: Path | None
    ) -> StepPrivacy:
        """Calibrate the noise for the whole plan; see `PrivacyOptions`."""
        mode, accountant = self._mode(method), check_accountant(self.accountant)
        groups = groups_of(self.unit, self.max_per_group, planned.groups)
        # What the options imply of a client's size; its true size is private, or may be.
        implied = planned.batch_size / self.sample_rate
        warn_of_delta(self.delta, implied, f"{self.unit}s in a client")
        steps = planned.local_steps or math.ceil(planned.epochs / self.sample_rate - 1e-9)
        rounds = client_rounds(planned, self.max_rounds_per_client)
        if self.noise_multiplier is None:
            noise = sampled_gaussian_noise(
                accountant,
                self.epsilon,
                self.delta,
                self.sample_rate,
                steps * rounds.count,
            )
        else:
            noise = self.noise_multiplier
        adaptive = adaptive_clipping(self, noise, planned.batch_size)
        mechanism = {
            "name": f"dpsgd {mode}",
            "delta": self.delta,
            "max_grad_norm": self.max_grad_norm,
            "noise_multiplier": noise,
            "sample_rate": self.sample_rate,
            "unit": self.unit,
            "max_per_group": self.max_per_group,
            "accountant": self.accountant,
            **({} if adaptive is None else adaptive.describe()),
        }

        def spent(units: int) -> float:
            return sampled_gaussian_epsilon(accountant, noise, self.sample_rate, units, self.delta)

        budget = Budget(self.epsilon, mechanism, spent, steps, self.max_rounds_per_client)
        warn_where_short(budget, rounds.count)
        tally = Tally()
        return StepPrivacy(
            mechanism=SampledGaussian(
                noise,
                self.max_grad_norm,
                planned.batch_size,
                self.memory_bytes,
                tally,
                adaptive,
            ),
            tally=tally,
            ledgers=Ledgers(budget, ledgers, shared_folder(self.ledgers)),
            sample_rate=self.sample_rate,
            normaliser=planned.batch_size,
            decoupled=mode == "decoupled",
            counts=self.counts,
            randomness=make_randomness(self.insecure_seed),
            groups=groups,
            statement=statements.of_steps(
                budget, rounds, mode, self.counts, self.insecure_seed, method
            ),
        )

    def _mode(self, method: AnyMethod) -> Mode:
        if self.mode is None:
            return (
                "decoupled"
                if gap_in_analysis(method, "decoupled") is None
                else permitted(method, "joint")
            )
        return permitted(method, self.mode)


@dataclass(frozen=True)
class Release:
    """Noise on the upload only, as pFedMoAP's paper describes, with valid accounting.

    **Unit**: all data of one client. **Neighbours**: replace them by any others. The move away
    from what the server sent is clipped; nothing is gained from sampling.

    Attributes:
        epsilon: Budget of each client over the whole run.
        delta: Delta of the guarantee.
        max_update_norm: Clipping norm of the move; two data sets differ by at most twice that.
        noise_multiplier: Noise in multiples of twice the clipping norm; none takes the least that
            lasts for all rounds that a client can take part in.
        counts: Whether uploads state the number of examples: ``withheld`` or declared ``public``.
        max_rounds_per_client: Rounds after which a client sits out; none lets it take part whenever
            it is drawn. Fewer rounds need less noise.
        ledgers: Folder of ledgers that several runs on the same clients share, so that all of them
            together stay within the budget; none keeps those of this run alone in its folder.
        insecure_seed: Seed of the noise, for tests: the result is then NOT private.
    """

    epsilon: Annotated[float, Bounds(ge=SMALLEST_EPSILON, le=LARGEST_EPSILON)] = 8.0
    delta: Annotated[float, Bounds(ge=SMALLEST_DELTA, lt=LARGEST_DELTA)] = 1e-5
    max_update_norm: Norm = 0.1
    noise_multiplier: Noise | None = None
    counts: Counts = "withheld"
    max_rounds_per_client: Count | None = None
    ledgers: str | None = None
    insecure_seed: int | None = None

    def __post_init__(self) -> None:
        check_options(self.epsilon, self.delta, self.noise_multiplier, self.max_update_norm)
        check_cap(self.max_rounds_per_client)

    def privatizer(
        self, method: AnyMethod, planned: PlannedTraining, ledgers: Path | None
    ) -> UploadPrivacy:
        """Calibrate the noise for the whole plan; see `PrivacyOptions`."""
        permitted(method, "release")
        warn_of_delta(self.delta, max(1, len(planned.clients)), "clients")
        rounds = client_rounds(planned, self.max_rounds_per_client)
        if self.noise_multiplier is None:
            noise = gaussian_noise(self.epsilon, self.delta, rounds.count)
        else:
            noise = self.noise_multiplier
        mechanism = {
            "name": "release",
            "unit": "client",
            "delta": self.delta,
            "max_update_norm": self.max_update_norm,
            "noise_multiplier": noise,
        }

        def spent(units: int) -> float:
            return gaussian_epsilon(noise, units, self.delta)

        budget = Budget(self.epsilon, mechanism, spent, 1, self.max_rounds_per_client)
        warn_where_short(budget, rounds.count)
        return UploadPrivacy(
            ledgers=Ledgers(budget, ledgers, shared_folder(self.ledgers)),
            noise_multiplier=noise,
            max_update_norm=self.max_update_norm,
            counts=self.counts,
            randomness=make_randomness(self.insecure_seed),
            statement=statements.of_uploads(budget, rounds, self.counts, self.insecure_seed),
        )


def permitted(method: AnyMethod, mode: Mode) -> Mode:
    """Return the mode.

    Raises:
        PrivacyError: The guarantee would be void; the message says why.
    """
    reason = gap_in_analysis(method, mode)
    if reason is not None:
        raise PrivacyError(f"{type(method).__name__} cannot be trained in mode {mode!r}: {reason}")
    return mode


def shared_folder(path: str | None) -> Path | None:
    """The folder of ``privacy.ledgers``."""
    return None if path is None else Path(path).expanduser()
