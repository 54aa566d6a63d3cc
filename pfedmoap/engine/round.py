"""One federated round: cohort, plan, exchange, admission, aggregation."""

import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from pfedmoap.client.privatizer import Authorisation, Privatizer
from pfedmoap.contract.capabilities import CanDecline, ServesExperts, StartsElsewhere
from pfedmoap.contract.method import Method
from pfedmoap.contract.tasks import ClientData, ClientResult, ClientTask
from pfedmoap.engine.engines import Train, train_here
from pfedmoap.errors import UpdateRejectedError
from pfedmoap.server.admission import admit
from pfedmoap.server.bounding import Bounded, bound_updates
from pfedmoap.wire.messages import Arrays, ClientId, Download, Update
from pfedmoap.wire.transport import Traffic, Transport

S = TypeVar("S")
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RoundResult(Generic[S]):
    """What one round produced.

    Attributes:
        state: The server's new state.
        local_states: New local state of the clients that took part; clients whose updates were
            refused have their old one with the arrays that last, or are absent.
        cohort: Clients that took part.
        sat_out: Reason for each drawn client that did not take part.
        epsilon: Epsilon that each participant has spent, by client; empty without a budget.
        charges: How many charges each participant's privacy ledger holds, by client.
        traffic: Bytes by client.
        train_loss: By client, where the client reports it.
        costs: Costs of the round outside the federation, by name and client.
        rejected: Why an update was refused, by client.
        served: Whose experts a client received, by client; empty for methods without a pool.
        clipped: Share of a client's vectors that were clipped, by client; counted from private
            data without noise, and for the private log alone.
        bounded: Whose change was shortened, and whose weight capped.
        screened: Why a client's prompt was served to nobody, by client.
        searched: Recall of an approximate search for experts, and if it is in use.
    """

    state: S
    local_states: Mapping[ClientId, Arrays]
    cohort: tuple[ClientId, ...]
    sat_out: Mapping[ClientId, str]
    epsilon: Mapping[ClientId, float]
    charges: Mapping[ClientId, int]
    traffic: Sequence[Traffic]
    train_loss: Mapping[ClientId, float]
    costs: Mapping[ClientId, Mapping[str, float]]
    rejected: Mapping[ClientId, str]
    served: Mapping[ClientId, tuple[ClientId, ...]]
    clipped: Mapping[ClientId, float]
    bounded: Bounded = field(default_factory=Bounded)
    screened: Mapping[ClientId, str] = field(default_factory=dict)
    searched: Mapping[str, float] = field(default_factory=dict)


def run_round(
    method: Method[S],
    state: S,
    cohort: Sequence[ClientId],
    round: int,
    data: Mapping[ClientId, ClientData],
    local_states: Mapping[ClientId, Arrays],
    transport: Transport,
    privatizer: Privatizer,
    charges: Mapping[ClientId, int] | None = None,
    train: Train = train_here,
) -> RoundResult[S]:
    """Run one round.

    The plan reads the state at the end of the last round. Updates are sorted by client id before
    they are aggregated, so that the order of arrival cannot matter; the privatizer decides what is
    aggregated of them (`ServerSide.settle`). A refused update affects only its client: what it
    trained is dropped, and what the round has cost it stays recorded. Privacy budgets are charged
    before anything else; a client sits out if its budget is spent or its method declines.

    Args:
        method: The method.
        state: The server's state.
        cohort: The drawn clients.
        round: The round, counted from 1.
        data: Training data by client.
        local_states: What clients kept from earlier rounds; absent for one that never took part.
        transport: Carries messages.
        privatizer: How gradients are formed and updates are uploaded.
        charges: How many charges each client's privacy ledger held after the last round; with
            ``None``, at least one is assumed for each client with local state.
        train: Trains the clients, wherever that is.

    Returns:
        The new state and what happened.
    """
    known = {**dict.fromkeys(local_states, 1), **(charges or {})}
    selected = _select(method, cohort, round, local_states, known, privatizer)
    with _unlogged() if privatizer.server.secret_cohort else nullcontext():
        able = selected.allowed
        exchanged = _exchange(
            method, state, able, round, data, local_states, transport, privatizer, train
        )
    return settle_round(
        method, state, round, min(data), selected, exchanged, local_states, privatizer, transport
    )


@contextmanager
def _unlogged() -> Iterator[None]:
    """Log nothing, whoever logs: a line about a client, or one line more, tells who takes part.

    What there is to say is in the round's result, whose parts about participants are private then.
    """
    before = logging.root.manager.disable
    logging.disable()
    try:
        yield
    finally:
        logging.disable(before)


@dataclass(frozen=True)
class Exchanged:
    """The messages between the server and the clients of a round.

    Clients on other machines keep their results: the server has their uploads alone.

    Attributes:
        planned: Downloads as the server sent them.
        arrived: Downloads as the clients received them, by client.
        results: The clients' results, in the order of client ids; none from other machines.
        admitted: The updates that passed the server's checks, in the same order.
        rejected: Reason for each update that did not.
    """

    planned: Sequence[Download]
    arrived: Mapping[ClientId, Download]
    results: Sequence[ClientResult]
    admitted: Sequence[Update]
    rejected: Mapping[ClientId, str]


def _select(
    method: Method[S],
    cohort: Sequence[ClientId],
    round: int,
    local_states: Mapping[ClientId, Arrays],
    known: Mapping[ClientId, int],
    privatizer: Privatizer,
) -> Authorisation:
    """Decide which drawn clients train, and charge their privacy budgets.

    Participation is public, so that nothing here may depend on the clients' data.
    """
    declined = {
        client: why
        for client in cohort
        if isinstance(method, CanDecline)
        and (why := method.declines(local_states.get(client))) is not None
    }
    able = [client for client in cohort if client not in declined]
    authorised = privatizer.authorise(able, round, known)
    return replace(authorised, sat_out={**authorised.sat_out, **declined})


def _exchange(
    method: Method[S],
    state: S,
    cohort: Sequence[ClientId],
    round: int,
    data: Mapping[ClientId, ClientData],
    local_states: Mapping[ClientId, Arrays],
    transport: Transport,
    privatizer: Privatizer,
    train: Train,
) -> Exchanged:
    """Send downloads, let the clients train, and check what they upload."""
    planned = method.plan(state, cohort, round) if cohort else []
    arrived = {download.client: transport.down(download) for download in planned}
    tasks = [
        ClientTask(download, local_states.get(client), data[client])
        for client, download in arrived.items()
    ]
    trained = train(method, tasks, privatizer) if tasks else []
    results = sorted(trained, key=lambda result: result.update.client)
    admitted: list[Update] = []
    rejected: dict[ClientId, str] = {}
    for result in results:
        client = result.update.client
        try:
            update = transport.up(privatizer.release(result.update, arrived[client]))
            admitted.append(admit(update, method.uploads, client, round, arrived[client].arrays))
        except UpdateRejectedError as error:
            logger.warning("round %d: %s", round, error)
            rejected[client] = str(error)
    return Exchanged(planned, arrived, results, admitted, rejected)


def settle_round(
    method: Method[S],
    state: S,
    round: int,
    anyone: ClientId,
    selected: Authorisation,
    exchanged: Exchanged,
    local_states: Mapping[ClientId, Arrays],
    privatizer: Privatizer,
    transport: Transport,
) -> RoundResult[S]:
    """Aggregate what the privatizer makes of the admitted updates, and record the round.

    Args:
        method: The method.
        state: The server's state at the end of the last round.
        round: The round.
        anyone: Some client, to ask what the server would send it.
        selected: Which drawn clients trained, and what that cost them.
        exchanged: What was sent and what came back.
        local_states: What clients had kept; empty where they are on other machines.
        privatizer: Decides what is aggregated.
        transport: Has counted the round's bytes.

    Returns:
        The new state and what happened.
    """

    def start() -> Arrays:
        sent = method.plan(state, [anyone], round)[0].arrays
        return {name: sent[name] for name in method.uploads if name in sent}

    admitted, bounded = exchanged.admitted, Bounded()
    if not privatizer.server.bounds_uploads:
        starts = _starts(method, state, exchanged)
        admitted, bounded = bound_updates(admitted, starts, method.setting.server)
    updates = privatizer.server.settle(round, admitted, exchanged.arrived, start)
    traffic, clipped = transport.collect(), privatizer.clipped()
    results = exchanged.results
    after = method.aggregate(state, updates)
    return RoundResult(
        state=after,
        local_states=_kept(results, exchanged.rejected, local_states),
        cohort=selected.allowed,
        sat_out=selected.sat_out,
        epsilon=selected.spent,
        charges=selected.charges,
        traffic=traffic,
        train_loss={
            update.client: loss
            for update in admitted
            if (loss := _finite(update.metrics.get("train_loss"))) is not None
        },
        costs={result.update.client: result.costs for result in results if result.costs},
        rejected=exchanged.rejected,
        served={
            download.client: download.served
            for download in exchanged.planned
            if download.served is not None
        },
        clipped=clipped,
        bounded=bounded,
        screened=method.screened(state) if isinstance(method, ServesExperts) else {},
        searched=method.searched(after) if isinstance(method, ServesExperts) else {},
    )


def _finite(metric: object) -> float | None:
    """A number for the log, whatever a client sent: JSON has no other."""
    if isinstance(metric, bool) or not isinstance(metric, int | float):
        return None
    return float(metric) if abs(metric) <= sys.float_info.max else None


def _starts(method: Method[S], state: S, exchanged: Exchanged) -> dict[ClientId, Arrays]:
    """Where each client's uploads started from: what it was sent, unless its method says more."""
    starts = {client: download.arrays for client, download in exchanged.arrived.items()}
    if isinstance(method, StartsElsewhere):
        return {client: {**sent, **method.starts(state, client)} for client, sent in starts.items()}
    return starts


def _kept(
    results: Sequence[ClientResult],
    rejected: Mapping[ClientId, str],
    before: Mapping[ClientId, Arrays],
) -> dict[ClientId, Arrays]:
    """Return the local states that the round changed; see `ClientResult.lasting`."""
    kept: dict[ClientId, Arrays] = {}
    for result in results:
        client = result.update.client
        if client not in rejected:
            kept[client] = result.local
        elif result.lasting:
            kept[client] = {**before.get(client, {}), **result.lasting}
    return kept
