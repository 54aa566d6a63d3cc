"""Measure rounds of training: steps captured, or over fixed buffers, against the plain loop.

Both ways run in this process on the same clients, and their results are compared. With
``privacy`` the private steps of a mode are measured beside the plain ones, each with all examples
of a client in every step.
"""

import gc
import json
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, Literal

import torch
from rich.console import Console
from rich.table import Table
from torch.nn import functional as F

from pfedmoap.client.local_training import Training
from pfedmoap.client.privatizer import NoPrivacy, PlannedTraining, Privatizer
from pfedmoap.contract.tasks import ClientData, ClientResult, ClientTask, Setting
from pfedmoap.methods.pfedmoap.method import PFedMoAP
from pfedmoap.models.clip.clip import FrozenCLIP
from pfedmoap.models.loading import BackboneOptions
from pfedmoap.seeding import generator
from pfedmoap.wire.messages import ClientId, Download
from privacy.options import DPSGD

Mode = Literal["joint", "decoupled"]


def main(
    model: str = "embedded",
    classes: tuple[int, ...] = (10,),
    clients: int = 20,
    clients_per_batch: int = 10,
    experts: int = 9,
    epochs: int = 5,
    examples: int = 16,
    privacy: tuple[Mode, ...] = ("joint", "decoupled"),
    repeats: int = 3,
    threads: int = 1,
    device: str = "auto",
    precision: Literal["fp32", "bf16", "fp16"] = "fp32",
    tf32: bool = False,
    compile: bool = False,  # noqa: A002  # the option's name
    json_file: str | None = None,
) -> None:
    """Print seconds and ratios.

    Args:
        model: ``embedded``, or an open_clip architecture with random weights.
        classes: Numbers of classes to measure.
        clients: Clients in the round.
        clients_per_batch: Clients side by side.
        experts: Non-local experts of each client.
        epochs: Steps of each client.
        examples: Examples of a client and of a step.
        privacy: Private modes that are measured too.
        repeats: Runs; the median is printed.
        threads: CPU threads.
        device: Where to run.
        precision: Number format of the towers.
        tf32: See ``training.tf32``.
        compile: See ``training.compile``.
        json_file: Where rows are written, too.
    """
    torch.set_num_threads(threads)
    weights = None if model == "embedded" else "random"
    clip = BackboneOptions(model, weights, precision, device).load()
    capturing: bool | Literal["auto"] = "auto" if clip.device.type == "cuda" else True
    rows = []
    for count in classes:
        tasks, names = _tasks(clip, count, clients, experts, examples)
        plain = 0.0
        for mode in ("none", *privacy):
            found: dict[bool, tuple[list[ClientResult], float]] = {}
            for captured in (False, True):
                training = Training(
                    epochs=epochs,
                    batch_size=examples,
                    clients_per_batch=clients_per_batch,
                    graphs=capturing if captured else False,
                    tf32=tf32,
                    compile=compile and captured,
                )
                setting = Setting(clip, names, training)
                method = PFedMoAP(setting, experts, context_length=16)
                found[captured] = _measured(method, tasks, mode, repeats)
                del method, setting  # with what they have captured, which takes memory
                gc.collect()
            (expected, loop), (results, seconds) = found[False], found[True]
            plain = plain or seconds
            moved = max(_moved(task, result) for task, result in zip(tasks, expected, strict=True))
            gap = max(_apart(a, b) for a, b in zip(results, expected, strict=True))
            if not gap <= (1e-3 if precision == "fp32" and not (tf32 or compile) else 0.1) * moved:
                raise SystemExit(
                    f"the two ways disagree: {gap:.2e} where prompts moved {moved:.2e}"
                )
            rows.append(
                {
                    "classes": count,
                    "training": "plain" if mode == "none" else f"private, {mode}",
                    "loop s": round(loop, 4),
                    "here s": round(seconds, 4),
                    "ratio": round(loop / seconds, 2),
                    "times plain": round(seconds / plain, 2),
                    "largest difference": f"{gap:.1e} of {moved:.1e}",
                }
            )
    table = Table(
        title=f"a round of {clients} clients, {clients_per_batch} side by side, {epochs} steps: "
        f"{model}, {precision}, {clip.device}",
        title_justify="left",
    )
    for heading in rows[0]:
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(*map(str, row.values()))
    Console(width=120).print(table)
    if json_file is not None:
        Path(json_file).write_text(json.dumps(rows))


def _tasks(
    clip: FrozenCLIP, classes: int, clients: int, experts: int, examples: int
) -> tuple[list[ClientTask], tuple[str, ...]]:
    stream = generator(0, "bench round", classes)
    names = tuple(f"thing number {i}" if i % 3 else f"object {i}" for i in range(classes))
    images = F.normalize(
        torch.randn(clients, examples, 1, clip.embed_dim, generator=stream), dim=-1
    )
    labels = torch.randint(0, classes, (clients, examples), generator=stream)
    prompts = 0.02 * torch.randn(clients, 16, clip.text_width, generator=stream)
    tasks = []
    for client in range(clients):
        others = [(client + 1 + step) % clients for step in range(experts)]
        arrays = {
            "context": prompts[0],
            "experts": prompts[others],
            "expert_clients": torch.tensor(others),
        }
        data = ClientData({"image": images[client]}, labels[client])
        tasks.append(ClientTask(Download(1, ClientId(client), arrays), {}, data))
    return tasks, names


def _measured(
    method: PFedMoAP, tasks: Sequence[ClientTask], mode: str, repeats: int
) -> tuple[list[ClientResult], float]:
    """Results, and seconds: those of the wall on a GPU, those computed on a CPU."""
    device = method.setting.backbone.device
    privatizer = _privatizer(method, mode, repeats + 1)
    times, results = [], []
    for turn in range(1, repeats + 2):  # the first one captures, and loads what is loaded once
        own = [replace(task, download=replace(task.download, round=turn)) for task in tasks]
        privatizer.authorise([task.download.client for task in own], turn, {})
        began, computed = perf_counter(), process_time()
        results = method.train(own, privatizer)
        if device.type == "cuda":
            torch.cuda.synchronize()
        elapsed = perf_counter() - began if device.type == "cuda" else process_time() - computed
        times.append(elapsed)
    return results, statistics.median(times[1:])


def _privatizer(method: PFedMoAP, mode: str, rounds: int) -> Privatizer:
    if mode == "none":
        return NoPrivacy()
    training = method.setting.training
    planned = PlannedTraining(rounds, training.epochs, training.batch_size)
    options: Any = {"mode": mode}  # one of the literals
    # So much noise that no budget ends the measurement.
    private = DPSGD(sample_rate=1.0, insecure_seed=0, noise_multiplier=20.0, **options)
    return private.privatizer(method, planned, None)


def _moved(task: ClientTask, result: ClientResult) -> float:
    found = result.update.arrays["context"] - task.download.arrays["context"]
    return float(found.abs().max())


def _apart(one: ClientResult, other: ClientResult) -> float:
    return float((one.update.arrays["context"] - other.update.arrays["context"]).abs().max())
