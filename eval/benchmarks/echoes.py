"""Two federations whose clients return what they were sent: ours, and Flower's own strategy."""

import statistics
import tempfile
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation

from pfedmoap.client.local_training import Training
from pfedmoap.client.privatizer import NoPrivacy
from pfedmoap.contract.method import AnyMethod
from pfedmoap.contract.tasks import Setting
from pfedmoap.engine.flower.client_app import make_client_app
from pfedmoap.engine.flower.fleet import Fleet
from pfedmoap.engine.flower.greeting import SECTIONS, Greeting, Welcome, greeting_json
from pfedmoap.engine.flower.letters import Answer, Order
from pfedmoap.engine.flower.members import Profile
from pfedmoap.engine.flower.remote import RemoteFederation
from pfedmoap.engine.flower.roll_call import Quorum, RollCall
from pfedmoap.engine.flower.signing import Signer
from pfedmoap.engine.simulation import FederationState, Rounds
from pfedmoap.methods.registry import method_class
from pfedmoap.models.loading import BackboneOptions
from pfedmoap.seeding import generator
from pfedmoap.wire.messages import Arrays, ClientId

CLASSES = ("cat", "dog")
TIMEOUT_SECONDS = 3600.0


def all_rows(
    nodes: int, rounds: int, model: str, experts: int, actors: int
) -> list[dict[str, Any]]:
    """Measure two methods, and as many bytes in Flower's own strategy.

    Args:
        nodes: Simulated nodes, all of which take part in every round.
        rounds: Rounds that are measured; two more go first.
        model: ``embedded``, or an open_clip architecture.
        experts: Experts that pFedMoAP sends to each client beside the prompt.
        actors: Processes of Flower's simulation.

    Returns:
        A row of figures for each.
    """
    rows = []
    for name, options in (("promptfl", {}), ("pfedmoap", {"experts": experts})):
        method = _method(name, model, options)
        rows.append(_measured(f"ours, {name}", nodes, actors, Ours(method, nodes, rounds)))
        both_ways = 2 + (experts if name == "pfedmoap" else 0)
        shape = (-(-both_ways // 2), *next(iter(method.uploads.values())).shape)
        rows.append(_measured("FedAvg, as much", nodes, actors, Theirs(shape, nodes, rounds)))
    return rows


class TimedGrid:
    """Flower's grid, with the thread's computing time in it counted.

    Attributes:
        stamps: After each round: seconds of the clock, of computing in the grid, and of all
            computing of this thread.
    """

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.inside = 0.0
        self.stamps: list[tuple[float, float, float]] = []

    def __getattr__(self, name: str) -> Any:  # whatever Flower's grid has
        found = getattr(self.grid, name)
        if not callable(found):
            return found

        def timed(*given: Any, **named: Any) -> Any:
            began = time.thread_time()
            try:
                answer = found(*given, **named)
                return list(answer) if isinstance(answer, Iterable) else answer
            finally:
                self.inside += time.thread_time() - began

        return timed

    def stamp(self) -> None:
        """Note that a round is over."""
        self.stamps.append((time.perf_counter(), self.inside, time.thread_time()))


class TimedApp(ClientApp):
    """A node's app, with its computing time for each order to train written to a file."""

    def __init__(self, app: ClientApp, log: Path) -> None:
        super().__init__()
        self.app, self.log = app, log

    def __call__(self, message: Message, context: Context) -> Message:
        """Answer."""
        began = time.thread_time()
        reply = self.app(message, context)
        if message.metadata.message_type.startswith("train"):
            with self.log.open("a") as file:
                file.write(f"{time.thread_time() - began}\n")
        return reply


@dataclass
class Ours:
    """Our server and sites that return what they were sent.

    Attributes:
        method: The method.
        nodes: How many there are.
        rounds: How many are measured.
        stamps: See `TimedGrid`.
        payload: Bytes to and from one client in a round.
    """

    method: AnyMethod
    nodes: int
    rounds: int
    stamps: list[tuple[float, float, float]] = field(default_factory=list)
    payload: int = 0

    def serve(self, grid: Grid, context: Context) -> None:
        """Greet, run two rounds, and measure the others."""
        del context
        timed: Any = TimedGrid(grid)
        fleet = Fleet(timed, TIMEOUT_SECONDS)
        roll = RollCall(fleet, _WELCOME, _SIGNER, Quorum(self.nodes))
        all_rounds = Rounds(self.rounds + 2)
        remote = RemoteFederation(self.method, all_rounds, 0, NoPrivacy(), roll)
        now: FederationState[Any] = FederationState(0, self.method.init(), {})

        for round in range(1, self.rounds + 3):
            result = remote.step(now, round)
            now = FederationState(round, result.state, {})
            one = result.traffic[0]
            self.payload = sum(one.down_bytes.values()) + sum(one.up_bytes.values())
            timed.stamp()
        self.stamps = timed.stamps[1:]

    @property
    def client(self) -> ClientApp:
        """The app of a site, around one that does not train."""
        uploads = tuple(self.method.uploads)
        return make_client_app(lambda config: EchoHost(str(config["partition-id"]), uploads))


@dataclass(frozen=True)
class EchoHost:
    """A site's machine without data."""

    number: str
    uploads: Sequence[str]

    def server_key(self, record: object) -> str:
        """The one server's."""
        del record
        return _PUBLIC

    def hello(self, welcome: Mapping[str, Any]) -> Mapping[str, Any]:
        """Take part."""
        del welcome
        return greeting_json(Greeting(f"site-{self.number}", Profile()))

    def site(self, federation: str, client: ClientId) -> Any:
        """A site that trains nothing."""
        del federation, client
        return self

    def forget(self, federation: str, clients: list[int]) -> dict[int, int]:
        """Nothing is kept."""
        del federation
        return dict.fromkeys(clients, 0)

    def train(self, order: Order, arrays: Arrays) -> tuple[Answer, Arrays]:
        """Return what was sent, moved as if it had been trained: equal prompts are not served."""
        answer = Answer(order.federation, order.client, order.round, order.nonce, 16)
        moves = generator(0, "client", order.client, "round", order.round)
        sent = {name: arrays[name] for name in self.uploads}
        return answer, {
            name: value + 0.01 * torch.randn(value.shape, generator=moves)
            for name, value in sent.items()
        }


@dataclass
class Theirs:
    """Flower's strategy, and the client of its examples.

    Attributes:
        shape: Of the arrays that go down and come back up, and how many they are.
        nodes: How many there are.
        rounds: How many are measured.
        stamps: See `TimedGrid`.
        payload: As for `Ours`.
    """

    shape: tuple[int, ...]
    nodes: int
    rounds: int
    stamps: list[tuple[float, float, float]] = field(default_factory=list)
    payload: int = 0

    def serve(self, grid: Grid, context: Context) -> None:
        """Run two rounds, and measure the others."""
        del context
        timed: Any = TimedGrid(grid)
        arrays = [torch.zeros(self.shape[1:]).numpy() for _ in range(self.shape[0])]
        everybody = {"min_train_nodes": self.nodes, "min_available_nodes": self.nodes}
        strategy = FedAvg(fraction_evaluate=0.0, **everybody)  # type: ignore[arg-type]
        record = ArrayRecord(arrays)
        self.payload = 2 * sum(array.nbytes for array in arrays)

        def stamp(round: int, _: ArrayRecord) -> None:
            if round > 0:
                timed.stamp()

        strategy.start(timed, record, self.rounds + 2, timeout=TIMEOUT_SECONDS, evaluate_fn=stamp)
        self.stamps = timed.stamps[1:]

    @property
    def client(self) -> ClientApp:
        """The client of Flower's examples, without training."""
        app = ClientApp()

        @app.train()
        def train(message: Message, context: Context) -> Message:
            del context
            arrays = message.content.array_records["arrays"].to_numpy_ndarrays()
            metrics = MetricRecord({"train_loss": 0.1, "num-examples": 16})
            content = RecordDict({"arrays": ArrayRecord(arrays), "metrics": metrics})
            return Message(content, reply_to=message)

        return app


def _measured(name: str, nodes: int, actors: int, work: Any) -> dict[str, Any]:
    app = ServerApp()
    app.main()(work.serve)
    resources = {"client_resources": {"num_cpus": 1}, "init_args": {"num_cpus": actors}}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that this way to simulate will go
        log = Path(folder) / "seconds"
        client = TimedApp(work.client, log)
        run_simulation(app, client, nodes, backend_config=resources)  # type: ignore[arg-type]
        at_nodes = [float(line) for line in log.read_text().splitlines()][2 * nodes :]
    clock, grid, thread = (
        statistics.median(after[i] - before[i] for before, after in pairwise(work.stamps))
        for i in range(3)
    )
    return {
        "engine": name,
        "nodes": nodes,
        "KiB a client": round(work.payload / 1024),
        "s a round": round(clock, 2),
        "grid, ms a client": round(1000 * grid / nodes, 2),
        "engine, ms a client": round(1000 * (thread - grid) / nodes, 2),
        "node, ms a message": round(1000 * statistics.median(at_nodes), 2),
        "share": f"{100 * (thread - grid) / clock:.1f} %",
    }


def _method(name: str, model: str, options: Mapping[str, Any]) -> AnyMethod:
    weights = None if model == "embedded" else "random"
    backbone = BackboneOptions(model, weights, device="cpu").load()
    setting = Setting(backbone, CLASSES, Training(clients_per_batch=1))
    kind: Any = method_class(name)
    made: AnyMethod = kind(setting, **options)
    return made


_SIGNER = Signer(Ed25519PrivateKey.from_private_bytes(bytes(32)))
_PUBLIC = _SIGNER.public
_WELCOME = Welcome("bench", {name: {} for name in SECTIONS}, CLASSES, ("{}.",), "weights", _PUBLIC)
