"""Which sites are there, and behind which node each of them is."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from flwr.app import RecordDict

from pfedmoap.engine.flower.fleet import Fleet, Silence
from pfedmoap.engine.flower.greeting import (
    Greeting,
    Welcome,
    read_greeting,
    welcome_json,
)
from pfedmoap.engine.flower.letters import seal, unseal
from pfedmoap.engine.flower.members import Members
from pfedmoap.engine.flower.signing import Signer
from pfedmoap.errors import RunError, UpdateRejectedError
from pfedmoap.storage.strict_json import fields, integer
from pfedmoap.wire.messages import ClientId
from pfedmoap.wire.said import one_line

logger = logging.getLogger(__name__)
_GREETING_SECONDS = 60.0  # so that one that encodes its images does not keep the others waiting
_LATECOMER_SECONDS = 30.0  # where there are enough without it
_AGAIN_SECONDS = 60.0  # after which a node that was refused is greeted again


@dataclass(frozen=True)
class Quorum:
    """How many sites a round needs.

    Attributes:
        min_clients: Fewest sites whose updates complete a round.
        attempts: How often a round that fewer answered is begun again.
        wait_seconds: How long to wait for so many sites to be there.
    """

    min_clients: int = 1
    attempts: int = 3
    wait_seconds: float = 3600.0


@dataclass
class RollCall:
    """The sites of a federation and their nodes: one node a site, and one site a node.

    Attributes:
        fleet: The nodes.
        welcome: What sites are told first.
        signer: Signs all that is sent.
        quorum: How many sites a round needs.
        members: All sites that ever took part.
        changed: Called whenever the members change, e.g. to write them down.
        erased: Called when a site says that it has erased those that have left, with its name and
            how many of its states held something of each.
        nodes: Node of each site that is there.
    """

    fleet: Fleet
    welcome: Welcome
    signer: Signer
    quorum: Quorum = field(default_factory=Quorum)
    members: Members = field(default_factory=Members)
    changed: Callable[[Members], None] = lambda _: None
    erased: Callable[[str, Mapping[ClientId, int]], None] = lambda *_: None
    nodes: dict[ClientId, int] = field(default_factory=dict)
    _refused: dict[int, float] = field(default_factory=dict)  # and when

    def gather(self, round: int) -> dict[ClientId, int]:
        """Greet nodes that are new, and return the node of each site that is there.

        Args:
            round: The next round.
        """
        present = self.fleet.present()
        self.nodes = {client: node for client, node in self.nodes.items() if node in present}
        now = self.fleet.clock()
        self._refused = {
            node: at for node, at in self._refused.items() if now < at + _AGAIN_SECONDS
        }
        known = {*self.nodes.values(), *self._refused}
        new = {
            node: seal(welcome_json(self.welcome), signer=self.signer, kind="query.hello")
            for node in present
            if node not in known
        }
        greetings: list[tuple[str, int, Greeting]] = []
        enough = len(self.nodes) >= self.quorum.min_clients
        patience = _LATECOMER_SECONDS if enough else _GREETING_SECONDS
        answers = self.fleet.ask("query.hello", new, str(round), patience)
        for node, answer in answers.items():
            if isinstance(answer, Silence):  # it may be encoding its images; it is asked again
                logger.info("node %d was greeted, but %s", node, answer.reason)
                continue
            try:
                greeting = self._greeting(present[node], answer)
                greetings.append((greeting.name, node, greeting))
            except UpdateRejectedError as error:
                self._refuse(node, error)
        for _, node, greeting in sorted(greetings, key=lambda one: one[:2]):
            try:
                self._take_in(node, greeting, round)
            except (UpdateRejectedError, RunError) as error:
                self._refuse(node, error)
        self._tell_who_left([node for node in new if node in self.nodes.values()])
        return self.nodes

    def _tell_who_left(self, nodes: Sequence[int]) -> None:
        """Have sites that were just greeted erase what they hold of those that have left."""
        gone = sorted(one.client for one in self.members.by_name.values() if one.left)
        if not gone or not nodes:
            return
        order = {"federation": self.welcome.federation, "clients": gone}
        content = {node: seal(order, signer=self.signer, kind="query.forget") for node in nodes}
        answers = self.fleet.ask("query.forget", content, most_seconds=_GREETING_SECONDS)
        here = {node: self.members.named(client) for client, node in self.nodes.items()}
        for node, answer in answers.items():
            try:
                self.erased(here[node], _states_changed(answer, gone))
            except UpdateRejectedError as error:
                self._refuse(node, UpdateRejectedError(f"it is to erase {gone}: {error}"))
                self.nodes = {c: other for c, other in self.nodes.items() if other != node}

    def _refuse(self, node: int, why: Exception) -> None:
        logger.warning("node %d is refused: %s", node, why)
        self._refused[node] = self.fleet.clock()

    def _greeting(self, registered: str, answer: RecordDict) -> Greeting:
        record, _ = unseal(answer)
        greeting = read_greeting(record, len(self.welcome.class_names))
        if registered and registered != greeting.name:
            raise UpdateRejectedError(
                f"it calls itself {greeting.name!r}, but its key is {registered!r}'s"
            )
        return greeting

    def _take_in(self, node: int, greeting: Greeting, round: int) -> None:
        name = greeting.name
        if greeting.refused is not None:
            raise UpdateRejectedError(f"site {name!r} does not take part: {greeting.refused}")
        members = self.members.joined(name, round, greeting.profile)
        client = members.by_name[name].client
        if client in self.nodes:
            raise UpdateRejectedError(f"another node is site {name!r} already")
        if members != self.members:
            self.members = members
            self.changed(members)
        self.nodes[client] = node
        logger.info("site %s is here as client %d", name, client)

    def wait(self, round: int) -> dict[ClientId, int]:
        """Wait until so many sites are there as a round needs.

        Raises:
            RunError: They did not come.
        """
        until = self.fleet.clock() + self.quorum.wait_seconds
        while len(there := self.gather(round)) < self.quorum.min_clients:
            if self.fleet.clock() >= until:
                raise RunError(
                    f"round {round}: {len(there)} sites are there, and a round needs "
                    f"{self.quorum.min_clients} (rounds.min_clients); the run goes on from its "
                    "last round when it is served again"
                )
            self.fleet.sleep(1.0)
        return there


def _states_changed(answer: RecordDict | Silence, gone: Sequence[ClientId]) -> dict[ClientId, int]:
    """Read how many of a site's states held something of those that have left."""
    if isinstance(answer, Silence):
        raise UpdateRejectedError(answer.reason)
    record, _ = unseal(answer)
    try:
        found = fields(fields(record, ("changed",))["changed"], [str(client) for client in gone])
        return {client: integer(found[str(client)], "states") for client in gone}
    except ValueError as error:
        raise UpdateRejectedError(one_line(f"this is no answer of a site: {error}")) from error
