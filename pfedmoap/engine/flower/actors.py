"""Flower's simulation on Ray, started for one run: its actors train batches of clients.

Flower's simulation is made for one message, one client and one process at a time. Here a virtual
node stands for a batch of clients, and the loop over rounds stays in the caller's thread: Flower's
own thread only hands over its grid and waits. docs/federation.md says what fits badly.
"""

import logging
import math
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from queue import Empty, Queue
from typing import Any

import ray
from flwr.app import ArrayRecord, Context
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.simulation import run_simulation
from flwr.simulation.ray_transport.ray_actor import pool_size_from_resources
from flwr.supercore import telemetry
from ray._private import auto_init_hook

from pfedmoap.client.privatizer import Privatizer
from pfedmoap.contract.method import AnyMethod
from pfedmoap.contract.tasks import ClientData, ClientResult, ClientTask
from pfedmoap.engine.engines import Recipe, Train
from pfedmoap.engine.flower.actor_app import make_actor_app
from pfedmoap.engine.flower.fan_out import FanOut
from pfedmoap.engine.flower.fleet import Fleet
from pfedmoap.engine.flower.parcels import data_record
from pfedmoap.engine.flower.ray_room import running_ray
from pfedmoap.engine.flower.room import Room
from pfedmoap.errors import RunError
from pfedmoap.wire.messages import ClientId

_YEARS = 1e9  # in seconds: a batch takes as long as it takes, and an actor that dies says so
_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class RayShelf:
    """Clients' data in Ray's object store: a machine fetches those that its actors train.

    Attributes:
        catalogue: Reference of references, by client.
    """

    catalogue: Any  # ray.ObjectRef, whose type parameter differs between versions of Ray

    def __call__(self, client: ClientId) -> ArrayRecord:
        """Fetch a client's data."""
        record: ArrayRecord = ray.get(ray.get(self.catalogue)[client])
        return record


@dataclass(frozen=True)
class RayRecipe:
    """A recipe in Ray's object store: an actor fetches it once.

    Attributes:
        stored: Its reference.
    """

    stored: Any  # as above

    def __call__(self) -> tuple[AnyMethod, Privatizer]:
        """Fetch and follow it; see `Recipe`."""
        recipe: Recipe = ray.get(self.stored)
        return recipe()


@contextmanager
def actors_training(
    room: Room, method: AnyMethod, data: Mapping[ClientId, ClientData], recipe: Callable[[], Recipe]
) -> Iterator[Train]:
    """Train batches of clients in actors, which start with the first round.

    Args:
        room: How many actors there are, and what each of them has.
        method: The run's method.
        data: Training data by client.
        recipe: Finds what makes the method, and a privatizer, in an actor.

    Yields:
        What trains a round's clients.
    """
    with ExitStack() as stack:
        started: list[FanOut] = []

        def train(
            asked: AnyMethod, tasks: Sequence[ClientTask], privatizer: Privatizer
        ) -> Sequence[ClientResult]:
            if not started:
                started.append(stack.enter_context(_started(room, method, data, recipe)))
            return started[0].train(asked, tasks, privatizer)

        yield train


@contextmanager
def _started(
    room: Room, method: AnyMethod, data: Mapping[ClientId, ClientData], recipe: Callable[[], Recipe]
) -> Iterator[FanOut]:
    chosen = method.setting.training.clients_per_batch
    kinds = tuple(method.features)
    with _quiet_flower(), running_ray(room):
        records = {client: ray.put(data_record(own, kinds)) for client, own in data.items()}
        shelf, stored = RayShelf(ray.put(records)), RayRecipe(ray.put(recipe()))
        try:
            actors = pool_size_from_resources({**room.each})
        except ValueError as error:
            raise RunError(
                f"no machine of the Ray cluster {room.address} has the {room.num_cpus} CPU cores "
                f"and {room.num_gpus:g} GPUs of an actor: lower engine.num_cpus or num_gpus"
            ) from error

        def size(clients: int) -> int:
            return math.ceil(clients / actors) if chosen == "auto" else chosen

        nodes = min(actors, len(data)) if chosen == "auto" else math.ceil(len(data) / chosen)
        app = make_actor_app(secrets.token_hex(8), stored, shelf, end_with_parent)
        with _simulation(app, nodes, room) as fleet:
            yield FanOut(fleet, size)


@contextmanager
def _simulation(app: ClientApp, nodes: int, room: Room) -> Iterator[Fleet]:
    """Run Flower's simulation in a thread, and ask its nodes from this one.

    Raises:
        RunError: The simulation ended by itself.
    """
    grids: Queue[Grid] = Queue()
    done = threading.Event()
    failures: list[BaseException] = []
    server = ServerApp()

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        del context
        grids.put(grid)
        done.wait()

    def run() -> None:
        try:
            run_simulation(server, app, nodes, backend_config={"client_resources": {**room.each}})
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, name="flower-simulation", daemon=True)

    def check() -> None:
        if not thread.is_alive():
            why = failures[0] if failures else "it gave no reason"
            raise RunError(f"Flower's simulation ended: {why}")

    def sleep(seconds: float) -> None:
        check()
        time.sleep(seconds)

    thread.start()
    try:
        yield Fleet(_ready(grids, nodes, check), _YEARS, _POLL_SECONDS, sleep)
    except BaseException:
        _kill_actors()  # they may be in the middle of a batch, which nobody waits for now
        raise
    finally:
        done.set()
        thread.join()


def _kill_actors() -> None:
    """End this run's actors at once; Flower's threads, which wait for them, then see that."""
    job: str = ray.get_runtime_context().get_job_id()
    worker: Any = ray._private.worker.global_worker  # what `ray.kill` does, without its handles
    for name, about in ray._private.state.actors().items():
        if about["JobID"] == job:
            worker.core_worker.kill_actor(ray.ActorID(bytes.fromhex(name)), True)


def end_with_parent() -> None:
    """Watch this process's parent, Ray, and end when it has: a batch would be trained to its end.

    Ray itself ends actors between two calls alone, where the process that started it was killed.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="parent-watch").start()


def _ready(grids: "Queue[Grid]", nodes: int, check: Callable[[], None]) -> Grid:
    """Wait for Flower's grid, and for the nodes, which it takes in after that."""
    while True:
        check()
        try:
            grid = grids.get(timeout=_POLL_SECONDS)
            break
        except Empty:
            continue
    while len(list(grid.get_node_ids())) < nodes:
        check()
        time.sleep(_POLL_SECONDS)
    return grid


@contextmanager
def _quiet_flower() -> Iterator[None]:
    """Keep Flower from reporting home, and from repeating what this process says itself."""
    log, hook = logging.getLogger("flwr"), auto_init_hook
    before = telemetry.FLWR_TELEMETRY_ENABLED, hook.enable_auto_connect, log.level
    telemetry.FLWR_TELEMETRY_ENABLED = "0"  # read when Flower is imported, perhaps long ago
    hook.enable_auto_connect = False  # Flower's clean-up would start a new Ray
    log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        telemetry.FLWR_TELEMETRY_ENABLED, hook.enable_auto_connect = before[:2]
        log.setLevel(before[2])
