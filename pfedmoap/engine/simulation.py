"""Simulate a federation in this process, from the last checkpoint to the last round."""

from collections import ChainMap, Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from time import perf_counter
from typing import Generic, Literal, TypeVar

from pfedmoap.client.privatizer import Privatizer
from pfedmoap.config.bounds import Count, Share, check_options
from pfedmoap.contract.method import Method
from pfedmoap.contract.server_rows import KeepsRows
from pfedmoap.contract.tasks import ClientData
from pfedmoap.contract.unread_options import refuse_unread_options
from pfedmoap.engine.engines import Train, train_here
from pfedmoap.engine.round import RoundResult, run_round
from pfedmoap.runs.client_states import ClientStates
from pfedmoap.runs.directory import Checkpoint, RunDirectory
from pfedmoap.runs.log import Record
from pfedmoap.server.cohort import draw_cohort
from pfedmoap.wire.messages import Arrays, ClientId
from pfedmoap.wire.transport import InProcess, Traffic

S = TypeVar("S")


@dataclass(frozen=True)
class Rounds:
    """Number of rounds, participation, evaluation interval and number format.

    Attributes:
        rounds: Communication rounds T.
        participation: Fraction of the clients that takes part in a round.
        evaluate_every: Evaluate all clients after every so many rounds, and after the last one.
        wire: Number format of float32 arrays on the wire.
    """

    rounds: Count = 10
    participation: Share = 1.0
    evaluate_every: Count = 1
    wire: Literal["float32", "float16"] = "float32"

    def __post_init__(self) -> None:
        check_options(self, "rounds")

    def cohort(self, clients: Iterable[ClientId], round: int, seed: int) -> tuple[ClientId, ...]:
        """Draw a round's cohort; anyone who has the seed can repeat it. See `draw_cohort`."""
        return draw_cohort(sorted(clients), self.participation, round, seed)

    def most_of_one_client(self, clients: Iterable[ClientId], seed: int) -> int:
        """Count the rounds of the client that this schedule draws most often.

        Args:
            clients: All clients that train.
            seed: The training seed.
        """
        everybody = tuple(clients)
        drawn = Counter(
            client
            for round in range(1, self.rounds + 1)
            for client in self.cohort(everybody, round, seed)
        )
        return max(drawn.values())


@dataclass(frozen=True)
class FederationState(Generic[S]):
    """The state of server and clients after a round.

    Attributes:
        round: The last complete round; 0 before the first.
        state: The server's state.
        local_states: Each client's own state; clients that never took part are absent. In a run on
            disk, each access reads one from there, but for those that the round has just changed.
        charges: How many charges each client's privacy ledger holds; clients without are absent.
    """

    round: int
    state: S
    local_states: Mapping[ClientId, Arrays]
    charges: Mapping[ClientId, int] = field(default_factory=dict)


# Fields of a round's record about single participants. If the cohort must be kept secret, they go
# to the private log, and the public one has empty values.
_OF_PARTICIPANTS = ("cohort", "sat_out", "train_loss", "costs", "rejected", "served", "traffic")

Observer = Callable[[FederationState[S]], Record]
Progress = Callable[[int, int], None]
Listener = Callable[[Record, int], None]
Step = Callable[[FederationState[S], int], RoundResult[S]]
"""Runs one round, given the federation after the last one and the round's number."""


def run_federation(
    method: Method[S],
    data: Mapping[ClientId, ClientData],
    rounds: Rounds,
    seed: int,
    privatizer: Privatizer,
    *,
    run: RunDirectory | None = None,
    observe: Observer[S] = lambda _: {},
    progress: Progress = lambda *_: None,
    listen: Listener = lambda *_: None,
    train: Train = train_here,
) -> FederationState[S]:
    """Run a federation to its last round, starting from the run directory's last checkpoint.

    The result depends on the configuration and the seed alone: neither on being resumed nor on
    the order of clients.

    Args:
        method: The method.
        data: Training data by client.
        rounds: Number of rounds and participation.
        seed: The training seed.
        privatizer: How gradients are formed.
        run: Where to keep checkpoints and metrics; ``None`` keeps nothing.
        observe: Evaluates the federation without changing it. Its record is logged.
        progress: Called with the round done and the number of rounds.
        listen: Called with each round's whole record, private fields included, once it is kept,
            and with the number of rounds.
        train: Trains a round's clients; see `pfedmoap.engine.engines`.

    Returns:
        The federation after its last round.

    Raises:
        ConfigError: An option of the server would change nothing in this method.
    """
    transport = InProcess(rounds.wire)
    before: dict[ClientId, int] | None = None

    def step(now: FederationState[S], round: int) -> RoundResult[S]:
        nonlocal before
        if before is None:
            # Runs of versions that did not count charges have at least one a round of a client.
            before = run.participation() if run and not now.charges else {}
        scheduled = rounds.cohort(data, round, seed)
        cohort = privatizer.server.draw(sorted(data), round, scheduled)
        known = {**before, **now.charges}
        own = now.local_states
        return run_round(
            method, now.state, cohort, round, data, own, transport, privatizer, known, train
        )

    return run_rounds(
        method,
        rounds,
        privatizer,
        step,
        run=run,
        observe=observe,
        progress=progress,
        listen=listen,
    )


def run_rounds(
    method: Method[S],
    rounds: Rounds,
    privatizer: Privatizer,
    step: Step[S],
    *,
    run: RunDirectory | None = None,
    observe: Observer[S] = lambda _: {},
    progress: Progress = lambda *_: None,
    listen: Listener = lambda *_: None,
) -> FederationState[S]:
    """Take rounds from the run directory's last checkpoint to the last one, wherever clients are.

    Args:
        method: The method.
        rounds: Number of rounds, and after which ones clients are evaluated.
        privatizer: Holds the state of the server's side of it.
        step: Runs one round.
        run: See `run_federation`, as for the rest.
        observe: Evaluates the federation.
        progress: Called after each round.
        listen: Called with each round's record.

    Returns:
        The federation after its last round.
    """
    refuse_unread_options(method)
    saved = run.resume() if run else None
    began = perf_counter()
    if saved is None:
        now = FederationState(0, method.init(), {})
    else:
        state = method.from_arrays(saved.server)
        now = FederationState(saved.round, state, saved.local_states, saved.charges)
        privatizer.server.restore(saved.privacy)
    last = rounds.rounds if method.trains else 1
    progress(now.round, last)
    for round in range(now.round + 1, last + 1):
        result = step(now, round)
        local_states = _laid_over(now.local_states, result.local_states)
        charges = {**now.charges, **result.charges}
        now = FederationState(round, result.state, local_states, charges)
        record = _record(round, result) | {"train_seconds": perf_counter() - began}
        privacy = dict(privatizer.server.state())
        record, private = _divided(record, result, privacy, privatizer.server.secret_cohort)
        if round % rounds.evaluate_every == 0 or round == last:
            record |= observe(now)
        if run:
            checkpoint = _checkpoint(method, now, privacy, result.cohort, privatizer)
            run.save(checkpoint, tuple(result.local_states), record, private)
            now = replace(now, local_states=run.local_states)  # no longer in memory
        progress(round, last)
        listen(record | private, last)
        began = perf_counter()
    return now


def _checkpoint(
    method: Method[S],
    now: FederationState[S],
    privacy: Mapping[str, float],
    cohort: Sequence[ClientId],
    privatizer: Privatizer,
) -> Checkpoint:
    """What is kept of a round. Which rows it changed is who took part, which may be a secret."""
    if isinstance(method, KeepsRows) and not privatizer.server.secret_cohort:
        server, rows = method.divided(now.state)
    else:
        server, rows = method.to_arrays(now.state), None
    return Checkpoint(now.round, server, now.local_states, now.charges, privacy, rows, cohort)


def _laid_over(
    before: Mapping[ClientId, Arrays], changed: Mapping[ClientId, Arrays]
) -> Mapping[ClientId, Arrays]:
    """Put changed states in the place of earlier ones, of which those on disk are not read."""
    if isinstance(before, ClientStates):
        return ChainMap(dict(changed), before)  # type: ignore[arg-type]  # written to by nobody
    return {**before, **changed}


def _record(round: int, result: RoundResult[S]) -> Record:
    return {
        "round": round,
        "cohort": list(result.cohort),
        "sat_out": {str(client): why for client, why in result.sat_out.items()},
        "epsilon": {str(client): spent for client, spent in result.epsilon.items()},
        "train_loss": {str(client): loss for client, loss in result.train_loss.items()},
        "costs": {str(client): dict(costs) for client, costs in result.costs.items()},
        "rejected": {str(client): why for client, why in result.rejected.items()},
        "served": {str(client): list(experts) for client, experts in result.served.items()},
        "traffic": [_traffic_record(traffic) for traffic in result.traffic],
        **_bounded_record(result),
    }


def _divided(
    record: Record, result: RoundResult[S], privacy: Mapping[str, float], secret: bool
) -> tuple[Record, Record]:
    """Split a round's record into its public part and the part for the operator only.

    Counts without noise are always private.
    """
    private: Record = {}
    if result.clipped:
        private["clipped"] = {str(client): share for client, share in result.clipped.items()}
    if privacy:
        record = record | {"privacy": dict(privacy)}
    if secret:
        private |= {name: record[name] for name in _OF_PARTICIPANTS}
        record = record | {name: type(record[name])() for name in _OF_PARTICIPANTS}
    return record, private


def _bounded_record(result: RoundResult[S]) -> Record:
    """What was reduced or not served, by client; nothing where nothing was."""
    record: Record = {}
    bounded = result.bounded
    if bounded.shortened:
        record["shortened"] = {
            str(client): {name: asdict(excess) for name, excess in arrays.items()}
            for client, arrays in bounded.shortened.items()
        }
    if bounded.capped:
        record["capped"] = {str(client): asdict(one) for client, one in bounded.capped.items()}
    if result.screened:
        record["screened"] = {str(client): why for client, why in result.screened.items()}
    if result.searched:
        record["searched"] = dict(result.searched)
    return record


def _traffic_record(traffic: Traffic) -> Record:
    return {
        "client": traffic.client,
        "down_bytes": traffic.down_bytes,
        "up_bytes": traffic.up_bytes,
    }
