"""Options of ``--privacy central``, which make a privatizer at the server."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pfedmoap.client.privatizer import PlannedTraining
from pfedmoap.config.bounds import Bounds, Fraction, Positive
from pfedmoap.config.server import ServerOptions
from pfedmoap.contract.method import AnyMethod
from pfedmoap.errors import PrivacyError
from privacy import statements
from privacy.accounting.epsilon import (
    LARGEST_DELTA,
    LARGEST_EPSILON,
    SMALLEST_DELTA,
    SMALLEST_EPSILON,
    check_accountant,
    sampled_gaussian_epsilon,
    sampled_gaussian_noise,
)
from privacy.accounting.plan import ClientRounds
from privacy.checks import (
    Noise,
    Norm,
    check_options,
    check_rate,
    make_randomness,
    warn_of_delta,
    warn_where_short,
)
from privacy.ledgers.ledger import Budget, Ledgers
from privacy.mechanisms.adaptive_clipping import adaptive_clipping
from privacy.mechanisms.central import CentralPrivacy, ServerAccount
from privacy.mechanisms.clipping import Rule
from privacy.options import permitted, shared_folder


def refuse_other_averages(server: ServerOptions) -> None:
    """Refuse options of the server that would void the analysis of the noisy mean.

    Its default bounds on changes and weights are not applied: they depend on other clients.

    Raises:
        PrivacyError: One is set.
    """
    usual = ServerOptions()
    if (server.max_change, server.max_examples) != (usual.max_change, usual.max_examples):
        raise PrivacyError(
            "server.max_change and server.max_examples are not applied under `--privacy central`: "
            "they compare clients with each other, so that one client's data would change how "
            "others are bounded. Leave them out; max_update_norm bounds each move, and all weigh "
            "the same"
        )
    if server.aggregation != "mean":
        raise PrivacyError(
            f"server.aggregation {server.aggregation} has no analysis under `--privacy central`: "
            "its noise covers the mean of clipped moves, whose sensitivity is known. Use "
            "server.aggregation mean; max_update_norm bounds what one client can do to it"
        )


_WHY = "each round releases of every client, and whether it took part is secret"


@dataclass(frozen=True)
class Central:
    """Noise on the average of a round, by a server that is trusted with the uploads.

    **Unit**: a client with all its data. **Neighbours**: add or remove it. Only for methods whose
    server averages. Clients are drawn for rounds in secret, each independently with probability
    ``rounds.participation``.

    Attributes:
        epsilon: Budget of every client over the whole run.
        delta: Delta of the guarantee; well below one over the number of clients.
        max_update_norm: Clipping norm of a client's move away from what the server sent; where
            clipping adapts, that of the first round.
        clipping: ``fixed`` keeps that norm; ``adaptive`` lets it follow a quantile of the moves'
            lengths, at the price of a little more noise.
        target_quantile: Share of the moves that shall not be clipped, where clipping adapts.
        clip_learning_rate: Step size of the norm's logarithm, where clipping adapts.
        count_noise_std: Noise on the number of unclipped moves, where clipping adapts; none
            takes what costs the mean at most 3 % more noise.
        accountant: ``pld`` is tight; ``rdp`` and ``prv`` check it, and hold, too.
        noise_multiplier: Noise in multiples of the clipping norm; none takes the least that lasts
            for the whole run.
        ledgers: Folder of ledgers that several runs on the same clients share, so that all of them
            together stay within the budget; none keeps that of this run alone in its folder.
        insecure_seed: Seed of cohorts and noise, for tests: the result is then NOT private.
    """

    epsilon: Annotated[float, Bounds(ge=SMALLEST_EPSILON, le=LARGEST_EPSILON)] = 8.0
    delta: Annotated[float, Bounds(ge=SMALLEST_DELTA, lt=LARGEST_DELTA)] = 1e-5
    max_update_norm: Norm = 0.1
    clipping: Rule = "fixed"
    target_quantile: Fraction = 0.5
    clip_learning_rate: Positive = 0.2
    count_noise_std: Positive | None = None
    accountant: str = "pld"  # as in `DPSGD`
    noise_multiplier: Noise | None = None
    ledgers: str | None = None
    insecure_seed: int | None = None

    def __post_init__(self) -> None:
        check_options(self.epsilon, self.delta, self.noise_multiplier, self.max_update_norm)
        check_accountant(self.accountant)

    def privatizer(
        self, method: AnyMethod, planned: PlannedTraining, ledgers: Path | None
    ) -> CentralPrivacy:
        """Calibrate the noise for the whole plan; see `PrivacyOptions`.

        Raises:
            PrivacyError: The method does more than average, or the plan names no clients.
        """
        permitted(method, "central")
        refuse_other_averages(method.setting.server)
        count, rate = len(planned.clients), planned.participation
        check_rate(rate, "rounds.participation")
        if not count:
            raise PrivacyError(
                "central noise is divided among the clients that a round expects, and the plan "
                "names none: give PlannedTraining(..., clients=...)"
            )
        accountant = check_accountant(self.accountant)
        warn_of_delta(self.delta, count, "clients")
        if self.noise_multiplier is None:
            noise = sampled_gaussian_noise(
                accountant, self.epsilon, self.delta, rate, planned.rounds
            )
        else:
            noise = self.noise_multiplier
        adaptive = adaptive_clipping(self, noise, rate * count)
        mechanism = {
            "name": "central",
            "delta": self.delta,
            "max_update_norm": self.max_update_norm,
            "noise_multiplier": noise,
            "sample_rate": rate,
            "unit": "client, added or removed",
            "expected_cohort": rate * count,
            "accountant": accountant,
            **({} if adaptive is None else adaptive.describe()),
        }

        def spent(units: int) -> float:
            return sampled_gaussian_epsilon(accountant, noise, rate, units, self.delta)

        budget = Budget(self.epsilon, mechanism, spent, 1)
        warn_where_short(budget, planned.rounds)
        return CentralPrivacy(
            account=ServerAccount(Ledgers(budget, ledgers, shared_folder(self.ledgers))),
            clients=tuple(sorted(planned.clients)),
            participation=rate,
            noise_multiplier=noise,
            clip_norm=self.max_update_norm,
            adaptive=adaptive,
            randomness=make_randomness(self.insecure_seed),
            statement=statements.of_server(
                budget, ClientRounds(planned.rounds, _WHY), count, self.insecure_seed
            ),
        )
