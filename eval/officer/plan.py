"""What a configuration will spend of privacy, and how much noise it adds, before it runs."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from eval.experiment import ExperimentLoader
from eval.officer.noised import stepped_size, uploaded_size
from eval.planning import training_of_splits
from eval.promise import is_private
from pfedmoap.client.privatizer import Privatizer
from pfedmoap.config.schema import Config
from pfedmoap.contract.method import AnyMethod
from pfedmoap.data.federation import share_out
from pfedmoap.errors import ConfigError
from pfedmoap.wire.messages import ClientId
from privacy.ledgers.ledger import Budget
from privacy.mechanisms.central import EVERYBODY, CentralPrivacy
from privacy.mechanisms.sgd import StepPrivacy
from privacy.mechanisms.upload import UploadPrivacy


@dataclass(frozen=True)
class Noise:
    """How much noise is added at once, to a step's sum of gradients or to an upload.

    Attributes:
        what: What it is added to.
        unit: What is noised and charged for, in the plural.
        multiplier: Its standard deviation in multiples of what one unit can change.
        clip: The clipping norm.
        std: Its standard deviation, in the units of the clipping norm.
        numbers: To how many numbers it is added; ``None`` if that is not known without data.
        divisor: What the noisy sum is divided by.
    """

    what: str
    unit: str
    multiplier: float
    clip: float
    std: float
    numbers: int | None
    divisor: float

    @property
    def norm(self) -> float | None:
        """The expected norm of the noise, std times the root of its numbers, or just below."""
        return None if self.numbers is None else self.std * _mean_chi(self.numbers)


@dataclass(frozen=True)
class ClientPlan:
    """What is planned for the clients that the public schedule draws equally often.

    Attributes:
        clients: Who they are; -1 for all together, where cohorts are drawn in secret.
        drawn: Rounds that they are drawn for.
        rounds: Rounds that their budget lasts for; in the others they sit out.
        units: Noisy steps, or releases, of these.
        epsilon: What they will have spent.
    """

    clients: tuple[ClientId, ...]
    drawn: int
    rounds: int
    units: int
    epsilon: float


@dataclass(frozen=True)
class Plan:
    """A private configuration before it runs.

    Attributes:
        statement: What the run will state of itself.
        budget: Epsilon that no client exceeds.
        delta: Delta of the guarantee.
        units_a_round: Noisy steps, or releases, of a client in a round.
        noise: How much noise there is.
        rounds: Epsilon of a client after each round that it takes part in, from the first on.
        clients: What is planned for whom, the most active first.
    """

    statement: dict[str, object]
    budget: float
    delta: float
    units_a_round: int
    noise: Noise
    rounds: tuple[float, ...]
    clients: tuple[ClientPlan, ...]


def make_plan(config: Config, loader: ExperimentLoader) -> Plan:
    """Plan a configuration: no image is encoded, nothing is trained and nothing is charged.

    Args:
        config: The resolved configuration.
        loader: Loads backbone and data.

    Raises:
        ConfigError: It promises no privacy.
        PrivacyError: There is no guarantee under its options.
    """
    if not is_private(config.sections):
        raise ConfigError(
            "the configuration promises no privacy (--privacy none): give --privacy dpsgd, "
            "release or central"
        )
    method, dataset = loader.method(config), loader.dataset(config)
    seeds, rounds = config.build("seeds"), config.build("rounds")
    partition, sampling = config.build("partition"), config.build("sampling")
    splits, _ = share_out(dataset, partition, sampling, seeds)
    planned = training_of_splits(config, dataset, splits)
    privatizer = config.build("privacy").privatizer(method, planned, None)
    budget = _budget(privatizer)
    if isinstance(privatizer, CentralPrivacy):
        drawn = {EVERYBODY: rounds.rounds}
    else:
        cohorts = (
            rounds.cohort(planned.clients, round, seeds.training)
            for round in range(1, rounds.rounds + 1)
        )
        counted = Counter(client for cohort in cohorts for client in cohort)
        drawn = {client: counted[client] for client in planned.clients}
    return Plan(
        statement=privatizer.describe(),
        budget=budget.epsilon,
        delta=float(budget.mechanism["delta"]),
        units_a_round=budget.units,
        noise=_noise(privatizer, method),
        rounds=tuple(
            budget.spent(budget.units * round) for round in range(1, max(drawn.values()) + 1)
        ),
        clients=_by_rounds(drawn, budget),
    )


def _budget(privatizer: Privatizer) -> Budget:
    if isinstance(privatizer, CentralPrivacy):
        return privatizer.account.ledgers.budget
    assert isinstance(privatizer, StepPrivacy | UploadPrivacy)  # the others have no guarantee
    return privatizer.ledgers.budget


def _by_rounds(drawn: dict[ClientId, int], budget: Budget) -> tuple[ClientPlan, ...]:
    made = []
    for count in sorted(set(drawn.values()), reverse=True):
        rounds = _lasts(count, budget)
        units = rounds * budget.units
        who = tuple(client for client, each in drawn.items() if each == count)
        made.append(ClientPlan(who, count, rounds, units, budget.spent(units)))
    return tuple(made)


def _lasts(drawn: int, budget: Budget) -> int:
    """Rounds that a client can take part in: its ledger and the cap on rounds allow no more."""
    most = drawn if budget.rounds is None else min(drawn, budget.rounds)
    return first_above(most, lambda round: budget.spent(round * budget.units) > budget.epsilon)


def first_above(most: int, too_much: Callable[[int], bool]) -> int:
    """The largest number up to ``most`` that is not too much, where more is never less.

    Example:
        >>> first_above(10, lambda count: count > 4)
        4
    """
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (low, middle - 1) if too_much(middle) else (middle, high)
    return low


def _noise(privatizer: Privatizer, method: AnyMethod) -> Noise:
    made = privatizer.describe()["mechanism"]
    times = float(made["noise_multiplier"])
    if isinstance(privatizer, StepPrivacy):
        clip, size = float(made["max_grad_norm"]), stepped_size(method, privatizer.decoupled)
        what = "the sum of a step's clipped gradients"
        return Noise(what, "steps", times, clip, times * clip, size, privatizer.normaliser)
    clip, size = float(made["max_update_norm"]), uploaded_size(method)
    if isinstance(privatizer, UploadPrivacy):
        # Any data may replace a client's, so that a unit changes its move by twice the norm.
        return Noise(
            "an upload's clipped move", "uploads", times, clip, 2 * times * clip, size, 1.0
        )
    what, cohort = "the sum of a round's clipped moves", float(made["expected_cohort"])
    return Noise(what, "noisy means", times, clip, times * clip, size, cohort)


def _mean_chi(numbers: int) -> float:
    """The expected norm of as many standard normal numbers."""
    return math.sqrt(2) * math.exp(math.lgamma((numbers + 1) / 2) - math.lgamma(numbers / 2))


def shown_rounds(rounds: Sequence[float], most: int = 12) -> list[int]:
    """Which rounds a table shows: the first, the last, and some between, at even distances."""
    if len(rounds) <= most:
        return list(range(1, len(rounds) + 1))
    steps = (1 + round(i * (len(rounds) - 1) / (most - 1)) for i in range(most))
    return sorted(set(steps))
