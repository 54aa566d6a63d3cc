"""Run a federation with hostile clients, and measure what they did to the honest ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.attacks.attack import Attack, PoisonSource
from eval.attacks.catalogue import ATTACKS, NONE
from eval.attacks.compromised import CompromisedClients
from eval.attacks.outcome import Outcome
from eval.attacks.reported import reported
from eval.attacks.spec import Case
from eval.attacks.trigger import to_be_fooled, triggered_data
from eval.experiment import Experiment, ExperimentLoader
from eval.logs import muted
from eval.predictions import predict_clients, states_for_prediction
from pfedmoap.client.privatizer import NoPrivacy
from pfedmoap.contract.tasks import ClientData
from pfedmoap.data.federation import Federation
from pfedmoap.engine.round import RoundResult, run_round
from pfedmoap.engine.simulation import FederationState, Rounds, run_rounds
from pfedmoap.errors import ConfigError
from pfedmoap.seeding import numpy_generator
from pfedmoap.server.cohort import round_half_up
from pfedmoap.wire.messages import ClientId
from pfedmoap.wire.transport import InProcess


@dataclass
class AttackLab:
    """Runs cases; what neighbours share is prepared once.

    Attributes:
        target: Class that backdoors aim at.
        loader: Loads data and backbone.
        kept: The latest federation, and the same with triggers.
    """

    target: int
    loader: ExperimentLoader
    kept: tuple[Federation, Federation] | None = None

    def run(self, case: Case) -> Outcome:
        """Run one case."""
        experiment = self.loader.prepare(case.config)
        if self.kept is None or self.kept[0] is not experiment.federation:
            self.kept = (experiment.federation, triggered_of(experiment, self.target))
        return run_case(case, experiment, self.kept[1], self.target)


def triggered_of(experiment: Experiment, target: int) -> Federation:
    """Make the federation with triggers of an experiment.

    Raises:
        ConfigError: There is no such target class.
    """
    setting = experiment.method.setting
    if target >= len(setting.class_names):
        raise ConfigError(
            f"target {target} is no class; there are {len(setting.class_names)}, counted from 0"
        )
    return triggered_data(
        experiment.federation.dataset,
        experiment.config,
        setting.backbone,
        tuple(experiment.method.features),
    )


def draw_attackers(clients: Sequence[ClientId], share: float, seed: int) -> frozenset[ClientId]:
    """Draw hostile clients; a larger share holds those of a smaller one.

    Args:
        clients: All clients.
        share: Share of hostile ones; at least one is, unless it is 0.
        seed: The seed.
    """
    if share == 0:
        return frozenset()
    order = numpy_generator(seed, "attackers").permutation(len(clients))
    count = max(1, round_half_up(share * len(clients)))
    return frozenset(clients[i] for i in order[:count].tolist())


def run_case(case: Case, experiment: Experiment, triggered: Federation, target: int) -> Outcome:
    """Run one case.

    Args:
        case: The case.
        experiment: Its experiment.
        triggered: The same federation with the trigger on every image.
        target: Class that backdoors aim at.
    """
    everybody = sorted(experiment.trainers)
    attackers = draw_attackers(everybody, case.share, case.seed)
    attack = Attack("nothing") if case.attack == NONE else ATTACKS[case.attack]
    classes = len(experiment.method.setting.class_names)
    data = {
        client: _poisoned(attack, own, triggered.clients[client].train, classes, target)
        if client in attackers
        else own
        for client, own in experiment.trainers.items()
    }
    rounds: Rounds = case.config.build("rounds")
    wire = CompromisedClients(InProcess(rounds.wire), attack, attackers, len(everybody), case.seed)
    seed: int = case.config.build("seeds").training
    method, privatizer = experiment.method, NoPrivacy()
    results: list[RoundResult[Any]] = []

    def step(now: FederationState[Any], round: int) -> RoundResult[Any]:
        cohort = rounds.cohort(data, round, seed)
        results.append(
            run_round(method, now.state, cohort, round, data, now.local_states, wire, privatizer)
        )
        return results[-1]

    with muted("pfedmoap"):  # refusals are counted
        final = run_rounds(method, rounds, privatizer, step)
    honest = frozenset(everybody) - attackers
    with_triggers = to_be_fooled(triggered, honest, target)
    measured = measure(experiment, final, honest, with_triggers, target)
    return Outcome(
        attackers, *measured, _served(results, honest, attackers), reported(results, attackers)
    )


def measure(
    experiment: Experiment,
    final: FederationState[Any],
    honest: frozenset[ClientId],
    triggered: Mapping[ClientId, ClientData],
    target: int,
) -> tuple[dict[ClientId, float], float | None, float]:
    """Test the honest clients on their own images, and on those with triggers, in one pass.

    Args:
        experiment: The experiment.
        final: The federation after its last round.
        honest: The honest clients.
        triggered: Their images with triggers; absent for a client without one.
        target: The class that these are to be taken for.

    Returns:
        Accuracy of each client's own model, accuracy of the global model on all of their images
        (``None`` without one), and the share of triggered images taken for the target.
    """
    clients = {client: experiment.federation.clients[client] for client in sorted(honest)}
    both = {
        client: replace(own, test=own.test.joined(triggered[client]))
        if client in triggered
        else own
        for client, own in clients.items()
    }
    federation = replace(experiment.federation, clients=both)
    states = states_for_prediction(experiment.method, final, federation)
    accuracy: dict[ClientId, float] = {}
    shared: list[NDArray[np.bool_]] = []
    fooled: list[NDArray[np.bool_]] = []
    for one in predict_clients(experiment.method, final, states, federation):
        plain = len(clients[one.client].test)
        labels, found = one.labels[:plain], one.personal.predicted
        accuracy[one.client] = float((found[:plain] == labels).mean())
        fooled.append(found[plain:] == target)
        if one.shared is not None:
            shared.append(one.shared.predicted[:plain] == labels)
    return accuracy, _mean(shared), _mean(fooled) or 0.0


def _mean(parts: Sequence[NDArray[np.bool_]]) -> float | None:
    whole = np.concatenate(parts) if parts else np.zeros(0, dtype=bool)
    return float(whole.mean()) if len(whole) else None


def _poisoned(
    attack: Attack, own: ClientData, triggered: ClientData, classes: int, target: int
) -> ClientData:
    return attack.poison(PoisonSource(own, triggered, classes, target))


def _served(
    results: Sequence[RoundResult[Any]], honest: frozenset[ClientId], attackers: frozenset[ClientId]
) -> float | None:
    by_round = [result.served for result in results if result.served]
    if not by_round:
        return None
    victims = {
        client
        for served in by_round
        for client, experts in served.items()
        if client in honest and attackers & set(experts)
    }
    return len(victims) / len(honest)
