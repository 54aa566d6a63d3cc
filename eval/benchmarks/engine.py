"""Measure what a round costs beside training, a client: planning, messages, aggregation, files.

Clients do not train: each returns its prompt with some noise, and a gate. All else is what a run
does. In the same run, the same states are also written in the old way, one file a client with two
flushes each and the server's whole state in one file, and read again; both must hold the same. Each
number of clients is measured in a process of its own, so that memory is its own, too.
"""

import json
import multiprocessing
import resource
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import torch

from pfedmoap.client.local_training import Training
from pfedmoap.client.privatizer import NoPrivacy, Privatizer
from pfedmoap.contract.server_rows import joined
from pfedmoap.contract.tasks import ClientData, ClientResult, ClientTask, Setting
from pfedmoap.engine.simulation import FederationState, Rounds, run_federation
from pfedmoap.methods.pfedmoap.method import PFedMoAP
from pfedmoap.models.loading import BackboneOptions
from pfedmoap.runs.checkpoint import Checkpoint
from pfedmoap.runs.directory import RunDirectory
from pfedmoap.runs.state_files import Owner, read_state, write_state
from pfedmoap.wire.messages import Arrays, ClientId, Update

CPU: dict[str, float] = defaultdict(float)
WALL: dict[str, float] = defaultdict(float)


class Timed:
    """Adds the time of a block to a part of the round."""

    def __init__(self, part: str) -> None:
        self.part = part

    def __enter__(self) -> None:
        self.cpu, self.wall = process_time(), perf_counter()

    def __exit__(self, *_: object) -> None:
        CPU[self.part] += process_time() - self.cpu
        WALL[self.part] += perf_counter() - self.wall


@dataclass(frozen=True)
class Idle(PFedMoAP):
    """The method without its training."""

    def plan(self, *arguments: Any) -> Any:
        """Time the plan."""
        with Timed("plan"):
            return super().plan(*arguments)

    def train(self, tasks: Sequence[ClientTask], _: Privatizer) -> list[ClientResult]:
        """Return each client's prompt with noise, and its gate."""
        with Timed("(not training)"):
            return [self._idle(task) for task in tasks]

    def aggregate(self, *arguments: Any) -> Any:
        """Time the aggregate."""
        with Timed("aggregate"):
            return super().aggregate(*arguments)

    def _idle(self, task: ClientTask) -> ClientResult:
        sent, client = task.download.arrays, task.download.client
        context = sent["context"] + 0.01 * torch.randn(sent["context"].shape)
        held = {name: array for name, array in sent.items() if name != "context"}
        gate = {name: value + 0.1 * torch.randn(value.shape) for name, value in self._gate.items()}
        update = Update(task.download.round, client, {"context": context}, len(task.data))
        return ClientResult(update, {**held, **gate, "context": context})

    @property
    def _gate(self) -> dict[str, torch.Tensor]:
        return dict(self.initial_gate)


class TimedRun(RunDirectory):
    """A run whose files are timed, with the same states written in the old way."""

    def save(self, checkpoint: Checkpoint, trained: Any, *more: Any) -> None:
        """Write the round in both ways."""
        with Timed("files"):
            super().save(checkpoint, trained, *more)
        old, round = self.path.parent / "old", checkpoint.round
        whole = checkpoint.server
        if checkpoint.rows is not None:
            whole = joined(whole, checkpoint.rows)
        _both(old / "server.safetensors", whole, Owner(None, round), self.load_server)
        for client in trained:
            file = old / f"{client:04d}/state.safetensors"
            state, read = checkpoint.local_states[client], partial(self.load_client, client)
            _both(file, state, Owner(client, round), read)


def _both(file: Path, state: Arrays, owner: Owner, read: Callable[[], Arrays | None]) -> None:
    """Write a state in the old way, and compare with what the run reads."""
    with Timed("old way"):
        write_state(file, state, owner)
    with Timed("(check)"):
        again, now = read_state(file, owner, None), read() or {}
        if any(not torch.equal(now[name], again[name]) for name in {*now, *again}):
            raise ValueError(f"{owner} is read in two ways")


def main(
    clients: tuple[int, ...] = (1000,),
    participation: float = 0.1,
    rounds: int = 5,
    warm: int = 2,
    experts: int = 9,
    json_file: str | None = None,
) -> None:
    """Print CPU (and wall) milliseconds a client and round, by part, and the files' old way.

    Args:
        clients: Numbers of clients.
        participation: Share of them in each round.
        rounds: Rounds that are timed.
        warm: Rounds before them.
        experts: Experts of a client.
        json_file: Where rows are written, too.
    """
    rows: list[dict[str, str]] = []
    for count in clients:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            asked = process.submit(_measure, count, participation, rounds, warm, experts)
            rows.append(asked.result())
        print(" ".join(f"{name} {value};" for name, value in rows[-1].items()), flush=True)
    if json_file is not None:
        Path(json_file).write_text(json.dumps(rows))


def _measure(
    clients: int, participation: float, rounds: int, warm: int, experts: int
) -> dict[str, str]:
    """One row: CPU and wall milliseconds a client and round."""
    torch.set_num_threads(1)
    setting = Setting(BackboneOptions().load(), ("cat", "dog"), Training())
    method = Idle(setting, experts=experts)
    one = ClientData({"image": torch.randn(2, 1, setting.backbone.embed_dim)}, torch.tensor([0, 1]))
    data = {ClientId(client): one for client in range(clients)}
    schedule = Rounds(warm + rounds, participation)
    with tempfile.TemporaryDirectory() as folder:
        run = TimedRun.create(Path(folder) / "run", {}, {}, resume=False)
        began: dict[str, float] = {}

        def observe(now: FederationState[Any]) -> dict[str, Any]:
            if now.round == warm + 1:
                CPU.clear()
                WALL.clear()
                began.update(cpu=process_time(), wall=perf_counter())
            return {}

        run_federation(method, data, schedule, 0, NoPrivacy(), run=run, observe=observe)
        cpu, wall = process_time() - began["cpu"], perf_counter() - began["wall"]
        disk = sum(file.stat().st_size for file in (run.path / "clients").iterdir())
        held = len(run.local_states)
    cohort = len(schedule.cohort(data, 1, 0))
    each = 1000 / (cohort * rounds)
    CPU["rest"] = cpu - sum(CPU.values())
    WALL["rest"] = wall - sum(WALL.values())
    parts = ("plan", "aggregate", "files", "rest")
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {
        "clients": f"{clients:,}, {cohort:,} a round",
        **{part: f"{CPU[part] * each:.2f} ({WALL[part] * each:.1f})" for part in parts},
        "all": f"{sum(CPU[part] for part in parts) * each:.2f}",
        "files, old way": f"{CPU['old way'] * each:.2f} ({WALL['old way'] * each:.1f})",
        "old / now": f"{CPU['old way'] / CPU['files']:.1f}x",
        "on disk KiB": f"{disk / held / 1024:.0f}",
        "resident GiB": f"{resident:.2f}",
    }
