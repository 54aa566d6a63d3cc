"""The server's side of a federation of sites: it runs the rounds of `run_rounds` over a fleet."""

import logging
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from flwr.app import RecordDict

from pfedmoap.client.privatizer import Authorisation, Privatizer
from pfedmoap.contract.method import Method
from pfedmoap.engine.flower.arrays import from_record, most_bytes, to_record
from pfedmoap.engine.flower.fleet import Silence
from pfedmoap.engine.flower.letters import (
    Answer,
    Order,
    check_answer,
    order_json,
    read_answer,
    seal,
    unseal,
)
from pfedmoap.engine.flower.roll_call import RollCall
from pfedmoap.engine.round import Exchanged, RoundResult, settle_round
from pfedmoap.engine.simulation import FederationState, Rounds
from pfedmoap.errors import RunError, UpdateRejectedError
from pfedmoap.server.admission import admit
from pfedmoap.wire.messages import Arrays, ClientId, Download, Update
from pfedmoap.wire.transport import InProcess

S = TypeVar("S")
logger = logging.getLogger(__name__)


@dataclass
class RemoteFederation(Generic[S]):
    """A federation whose clients are sites behind a fleet of nodes.

    Attributes:
        method: The method.
        rounds: Number of rounds, participation, and the wire's number format.
        seed: The training seed.
        privatizer: Its server side is used here; sites make their own.
        roll: The sites, and the nodes that they are behind.
        registered: Numbers of all sites that there can be, where the privatizer draws them in
            secret. All that are there are then asked and train, so that the network shows nothing,
            and the draw says whose updates count.
        committed: The last round in which each site's update was admitted.
    """

    method: Method[S]
    rounds: Rounds
    seed: int
    privatizer: Privatizer
    roll: RollCall
    registered: tuple[ClientId, ...] = ()
    committed: dict[ClientId, int] = field(default_factory=dict)

    def step(self, now: FederationState[S], round: int) -> RoundResult[S]:
        """Run one round; see `pfedmoap.engine.simulation.Step`.

        Raises:
            RunError: Too few sites were there or answered, however often it was tried.
        """
        fewest = self.roll.quorum.min_clients
        for _ in range(self.roll.quorum.attempts):
            asked = self._asked(self.roll.wait(round), round)
            transport = InProcess(self.rounds.wire)
            planned = self.method.plan(now.state, asked, round) if asked else []
            arrived = {one.client: transport.down(one) for one in planned}
            orders, answers = self._ask("train", round, arrived)
            came = self._received(round, planned, arrived, orders, answers, transport)
            if len(came.exchanged.admitted) >= min(fewest, len(asked)):
                result = self._settled(now, round, came, transport)
                self.committed.update(
                    {one: round for one in result.cohort if one not in result.rejected}
                )
                return result
            missing = {**came.sat_out, **came.exchanged.rejected}
            logger.warning(
                "round %d: %d updates were admitted of %d that it needs; it is begun again: %s",
                round,
                len(came.exchanged.admitted),
                fewest,
                missing,
            )
        raise RunError(
            f"round {round}: fewer than {fewest} sites (rounds.min_clients) sent an update, in "
            f"{self.roll.quorum.attempts} attempts: {missing}"
        )

    def _asked(self, there: Mapping[ClientId, int], round: int) -> tuple[ClientId, ...]:
        server = self.privatizer.server
        if server.secret_cohort:
            return tuple(sorted(set(there) & set(self.registered)))
        return server.draw(sorted(there), round, self.rounds.cohort(there, round, self.seed))

    def evaluate(self, now: FederationState[S]) -> dict[ClientId, Mapping[str, float]]:
        """Let every site that is there test its model; empty figures where they are private."""
        there = self.roll.gather(now.round + 1)
        planned = self.method.plan(now.state, sorted(there), now.round + 1) if there else []
        sent = InProcess(self.rounds.wire)
        arrived = {one.client: sent.down(one) for one in planned}
        orders, answers = self._ask("evaluate", now.round + 1, arrived)
        scores: dict[ClientId, Mapping[str, float]] = {}
        for client, content in sorted(answers.items()):
            try:
                answer, _ = self._read(content, orders[client])
            except UpdateRejectedError as error:
                logger.warning("round %d: client %d was not tested: %s", now.round, client, error)
                continue
            if answer.sat_out is not None:
                logger.warning("client %d was not tested: %s", client, answer.sat_out)
            elif answer.scores:
                scores[client] = answer.scores
        return scores

    def _ask(
        self, kind: str, round: int, downloads: Mapping[ClientId, Download]
    ) -> tuple[dict[ClientId, Order], dict[ClientId, RecordDict | Silence]]:
        orders = {
            client: Order(
                self.roll.welcome.federation,
                client,
                round,
                self.committed.get(client, 0),
                secrets.token_hex(16),
                self.rounds.wire,
            )
            for client in downloads
        }
        contents = {
            self.roll.nodes[client]: seal(
                order_json(orders[client]),
                to_record(download.arrays, self.rounds.wire),
                self.roll.signer,
                kind,
            )
            for client, download in downloads.items()
        }
        answers = self.roll.fleet.ask(kind, contents, str(round))
        return orders, {client: answers[self.roll.nodes[client]] for client in downloads}

    def _received(
        self,
        round: int,
        planned: Sequence[Download],
        arrived: Mapping[ClientId, Download],
        orders: Mapping[ClientId, Order],
        answers: Mapping[ClientId, RecordDict | Silence],
        transport: InProcess,
    ) -> "_Received":
        admitted: list[Update] = []
        rejected: dict[ClientId, str] = {}
        sat_out: dict[ClientId, str] = {}
        spent: dict[ClientId, float] = {}
        for client in sorted(answers):
            content = answers[client]
            if isinstance(content, Silence):
                sat_out[client] = content.reason
                continue
            try:
                answer, arrays = self._read(content, orders[client], upload=True)
                if answer.sat_out is not None:
                    sat_out[client] = answer.sat_out
                    continue
                update = Update(
                    answer.round, answer.client, arrays, answer.num_examples, answer.metrics
                )
                admit(update, self.method.uploads, client, round, arrived[client].arrays)
                admitted.append(transport.up(update))
            except UpdateRejectedError as error:
                logger.warning("round %d: %s", round, error)
                rejected[client] = str(error)
                continue
            if answer.epsilon is not None:
                spent[client] = answer.epsilon
        return _Received(Exchanged(planned, arrived, [], admitted, rejected), sat_out, spent)

    def _settled(
        self, now: FederationState[S], round: int, came: "_Received", transport: InProcess
    ) -> RoundResult[S]:
        """Aggregate what came of the sites that count: all that were asked, or those drawn now."""
        everything, sat_out, spent = came.exchanged, came.sat_out, came.spent
        counted = set(everything.arrived)
        if self.privatizer.server.secret_cohort:
            drawn = self.privatizer.server.draw(self.registered, round, ())
            authorised = self.privatizer.authorise(drawn, round, {})
            counted, spent = set(authorised.allowed), authorised.spent
            sat_out = {
                one: sat_out.get(one, "it was not there")
                for one in drawn
                if one in sat_out or one not in everything.arrived
            } | dict(authorised.sat_out)
        took_part = tuple(sorted(counted & everything.arrived.keys() - sat_out.keys()))
        exchanged = Exchanged(
            [one for one in everything.planned if one.client in took_part],
            {client: everything.arrived[client] for client in took_part},
            [],
            [one for one in everything.admitted if one.client in took_part],
            {one: why for one, why in everything.rejected.items() if one in took_part},
        )
        anyone = min(self.roll.nodes)
        nobody: Mapping[ClientId, Arrays] = {}
        return settle_round(
            self.method,
            now.state,
            round,
            anyone,
            Authorisation(took_part, sat_out, spent),
            exchanged,
            nobody,
            self.privatizer,
            transport,
        )

    def _read(
        self, content: RecordDict | Silence, order: Order, *, upload: bool = False
    ) -> tuple[Answer, Arrays]:
        """Read and check an answer; the arrays of an upload alone, and only where it has one."""
        if isinstance(content, Silence):
            raise UpdateRejectedError(content.reason)
        record, arrays = unseal(content)
        answer = check_answer(read_answer(record), order)
        if not upload or answer.sat_out is not None:
            return answer, {}
        uploads = self.method.uploads
        return answer, from_record(arrays, uploads, most_bytes(uploads))


@dataclass(frozen=True)
class _Received:
    """What came of all sites that were asked, checked, whoever will count.

    Attributes:
        exchanged: What was sent, and the updates that passed the checks.
        sat_out: Why others sent none.
        spent: What sites say to have spent.
    """

    exchanged: Exchanged
    sat_out: Mapping[ClientId, str]
    spent: Mapping[ClientId, float]


def committed_rounds(records: Sequence[Mapping[str, Any]]) -> dict[ClientId, int]:
    """Find from a run's log in which round each client's update was admitted last.

    Args:
        records: The lines of its metrics, in the order of rounds.
    """
    found: dict[ClientId, int] = {}
    for record in records:
        rejected = record.get("rejected", {})
        for client in record["cohort"]:
            if str(client) not in rejected:
                found[ClientId(client)] = int(record["round"])
    return found
