"""What an observer of a federation holds: prompts before and after, and images of its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from eval.experiment import Experiment
from pfedmoap.contract.tasks import ClientData
from pfedmoap.engine.round import RoundResult, run_round
from pfedmoap.engine.simulation import FederationState, Rounds, run_rounds
from pfedmoap.errors import ConfigError
from pfedmoap.seeding import generator
from pfedmoap.wire.messages import ClientId
from privacy.auditing.planted import PROMPT
from privacy.auditing.wiretap import Wiretap


@dataclass(frozen=True)
class Move:
    """One move of a prompt.

    Attributes:
        start: The prompt before, (L, W).
        end: The prompt after, (L, W).
    """

    start: Tensor
    end: Tensor


@dataclass(frozen=True)
class Observed:
    """What an observer of one run holds.

    Attributes:
        moves: The moves of each client's prompt, one a round. An observer of the server's states
            alone has the same moves for all of them, those of the average.
        clients: The clients' training data: the truth, unknown to the observer.
        own: The observer's own images, from the same source as the clients'.
        others: Images that no client has trained on, to be told from those that one has.
    """

    moves: Mapping[ClientId, Sequence[Move]]
    clients: Mapping[ClientId, ClientData]
    own: ClientData
    others: ClientData


def observe(experiment: Experiment) -> Observed:
    """Run a federation and look at each upload, or where the server is trusted at its states.

    Args:
        experiment: The experiment; its server holds images (``sampling.server_shots``).

    Raises:
        ConfigError: The server holds no images.
    """
    held = experiment.federation.server
    if held is None:
        raise ConfigError("an observer needs images of its own: set sampling.server_shots, e.g. 40")
    config, method, data = experiment.config, experiment.method, experiment.trainers
    rounds: Rounds = config.build("rounds")
    seed: int = config.build("seeds").training
    privatizer = experiment.privatizer(None)
    wire = Wiretap()
    states: list[Tensor] = [method.to_arrays(method.init())[PROMPT]]

    def step(now: FederationState[object], round: int) -> RoundResult[object]:
        scheduled = rounds.cohort(data, round, seed)
        cohort = privatizer.server.draw(sorted(data), round, scheduled)
        result = run_round(
            method,
            now.state,
            cohort,
            round,
            data,
            now.local_states,
            wire,
            privatizer,
            now.charges,
        )
        states.append(method.to_arrays(result.state)[PROMPT])
        return result

    run_rounds(method, rounds, privatizer, step)
    if config.name("privacy") == "central":
        steps = [Move(start, end) for start, end in pairwise(states)]
        moves = dict.fromkeys(sorted(data), steps)
    else:
        moves = {client: [] for client in sorted(data)}
        for one in wire.exchanges:
            moves[one.client].append(Move(one.start, one.upload))
    own, others = halves(held, seed)
    return Observed(moves, data, own, others)


def halves(data: ClientData, seed: int) -> tuple[ClientData, ClientData]:
    """Divide examples at random into two halves."""
    order = torch.randperm(len(data), generator=generator(seed, "observer"))
    middle = len(order) // 2
    return chosen(data, order[:middle]), chosen(data, order[middle:])


def chosen(data: ClientData, rows: Tensor) -> ClientData:
    """Some of the examples, by number or by truth value."""
    return ClientData({kind: f[rows] for kind, f in data.features.items()}, data.labels[rows])
