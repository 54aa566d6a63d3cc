"""Flower without processes: a grid whose nodes are apps in this process, with real messages."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.task_identity import TaskIdentity

from pfedmoap.client.privatizer import NoPrivacy
from pfedmoap.contract.method import AnyMethod
from pfedmoap.contract.tasks import ClientData
from pfedmoap.engine.flower.client_app import make_client_app
from pfedmoap.engine.flower.fleet import Fleet
from pfedmoap.engine.flower.greeting import SECTIONS, Greeting, Welcome, greeting_json
from pfedmoap.engine.flower.members import Profile
from pfedmoap.engine.flower.remote import RemoteFederation
from pfedmoap.engine.flower.roll_call import Quorum, RollCall
from pfedmoap.engine.flower.signing import Signer
from pfedmoap.engine.flower.site import Site
from pfedmoap.engine.flower.site_state import SiteState
from pfedmoap.engine.simulation import Rounds
from pfedmoap.errors import RunError
from pfedmoap.wire.messages import ClientId

SIGNER = Signer(Ed25519PrivateKey.from_private_bytes(bytes(32)))
WELCOME = Welcome(
    "f0", {name: {} for name in SECTIONS}, ("a", "b"), ("{}.",), "weights", SIGNER.public
)

ID = "_message_id"
Meddle = Callable[[Message], Message | None]


def key_of(node: int) -> bytes:
    return f"key {node}".encode()


class MemoryGrid(Grid):
    """Carries messages in Flower's own form to apps in this process, and counts their bytes.

    Attributes:
        apps: The nodes, by id.
        meddle: What happens to each answer on its way; ``None`` loses it.
    """

    def __init__(self, apps: Mapping[int, ClientApp]) -> None:
        self.apps = dict(apps)
        self.meddle: Meddle = lambda reply: reply
        self.sent_bytes = 0
        self.answered: list[Message] = []
        self._ready: dict[str, Message] = {}
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1

    def set_run(self, run):
        raise NotImplementedError

    @property
    def run(self):
        raise NotImplementedError

    def create_message(self, content, message_type, dst_node_id, group_id, ttl=None):
        raise NotImplementedError

    def get_node_ids(self) -> Iterable[int]:
        return list(self.apps)

    def get_nodes(self) -> Iterable[NodeInfo]:
        return [NodeInfo(node_id=node, public_key=key_of(node)) for node in self.apps]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        found = []
        for message in messages:
            arrived = self._carried(message)
            found.append(arrived.metadata.message_id)
            node = message.metadata.dst_node_id
            context = Context(1, node, {}, RecordDict(), {})
            reply = self.meddle(self._carried(self.apps[node](arrived, context)))
            if reply is not None:
                self.answered.append(reply)
                self._ready[arrived.metadata.message_id] = reply
        return found

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return [self._ready.pop(name) for name in message_ids if name in self._ready]

    def send_and_receive(self, messages, *, timeout=None):
        return self.pull_messages(self.push_messages(messages))

    def _carried(self, message: Message) -> Message:
        vars(message.metadata)[ID] = message.object_id  # as Flower does it
        contents = {name: part.deflate() for name, part in get_all_nested_objects(message).items()}
        self.sent_bytes += sum(map(len, contents.values()))
        arrived = inflate_object_from_contents(message.object_id, contents)
        assert isinstance(arrived, Message)
        vars(arrived.metadata)[ID] = message.object_id
        return arrived


@dataclass
class OneSite:
    """A host whose site is made by a test."""

    name: str
    make: Callable[[ClientId], Site]
    profile: Profile = field(default_factory=Profile)
    made: dict[ClientId, Site] = field(default_factory=dict)
    forgotten: list[int] = field(default_factory=list)

    def server_key(self, record) -> str:
        return SIGNER.public

    def hello(self, welcome):
        return greeting_json(Greeting(self.name, self.profile))

    def site(self, federation: str, client: ClientId) -> Site:
        if self.made and client not in self.made:
            raise RunError("another number")
        return self.made.setdefault(client, self.make(client))

    def forget(self, federation: str, clients: list[int]) -> dict[int, int]:
        self.forgotten += clients
        return dict.fromkeys(clients, 0)


def app_of(host: OneSite) -> ClientApp:
    return make_client_app(lambda _: host)


def site_maker(
    method: AnyMethod,
    data: ClientData,
    folder: Path,
    privatizer=NoPrivacy,
    scores=lambda download, local: {},
    private=False,
) -> Callable[[ClientId], Site]:
    return lambda client: Site(
        WELCOME.federation,
        client,
        method,
        data,
        privatizer(),
        SiteState(folder, client),
        scores,
        private,
    )


def remote(
    method: AnyMethod, grid: Grid, rounds: Rounds, privatizer=None, seed=0, **quorum
) -> RemoteFederation:
    clock = iter(range(10**9))
    fleet = Fleet(grid, 3, sleep=lambda _: None, clock=lambda: float(next(clock)))
    roll = RollCall(fleet, WELCOME, SIGNER, Quorum(wait_seconds=5, **quorum))
    return RemoteFederation(method, rounds, seed, privatizer or NoPrivacy(), roll)
