"""Measure the evaluation of many clients, and of one client after the other.

The plain way plans for every client, asks one model at a time and calls scikit-learn once a client;
this package encodes each prompt once, runs the models side by side and plans for newcomers alone.
Both run in this process on the same trained clients, and their answers are compared.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from sklearn.metrics import f1_score
from torch.nn import functional as F

from eval.accuracy import evaluate
from eval.predictions import Answers, predict_clients, states_for_prediction
from pfedmoap.client.local_training import Training
from pfedmoap.client.privatizer import NoPrivacy
from pfedmoap.contract.method import AnyMethod
from pfedmoap.contract.tasks import ClientData, ClientTask, Setting
from pfedmoap.data.dataset import ImageDataset
from pfedmoap.data.federation import Client, Federation
from pfedmoap.data.splits import ClientSplit
from pfedmoap.engine.simulation import FederationState
from pfedmoap.methods.registry import method_class
from pfedmoap.models.clip.clip import FrozenCLIP
from pfedmoap.models.loading import BackboneOptions
from pfedmoap.seeding import generator
from pfedmoap.wire.messages import ClientId, Update

T = TypeVar("T")
TOLERANCE = {"fp32": 1e-5, "bf16": 0.1, "fp16": 2e-2}
"""Of probabilities; half towers round otherwise where they encode many prompts at once."""


def main(
    method: str = "pfedmoap",
    model: str = "embedded",
    clients: tuple[int, ...] = (100, 1000),
    classes: int = 10,
    images: int = 2,
    experts: int = 9,
    repeats: int = 3,
    threads: int = 1,
    device: str = "auto",
    precision: Literal["fp32", "bf16", "fp16"] = "fp32",
    json_file: str | None = None,
) -> None:
    """Print milliseconds a client, and the ratio.

    Args:
        method: The method; all clients have trained with it.
        model: ``embedded``, or an open_clip architecture with random weights.
        clients: Numbers of clients.
        classes: Number of classes.
        images: Test images of each client.
        experts: Non-local experts of each client, for pfedmoap.
        repeats: Evaluations; the median is printed. The plain way runs once.
        threads: CPU threads.
        device: Where to run.
        precision: Number format of the towers.
        json_file: Where rows are written, too.
    """
    torch.set_num_threads(threads)
    table = Table(
        title=f"{method}, {model}, {precision}, {classes} classes, {images} images a client, "
        f"{threads} threads",
        title_justify="left",
    )
    headings = (
        *("clients", "ms a client", "CPU ms", "CPU ms, nothing encoded yet"),
        *("plain ms", "plain CPU ms", "ratio", "largest difference"),
    )
    for heading in headings:
        table.add_column(heading, justify="right")
    rows: list[dict[str, str]] = []
    for count in clients:
        weights = None if model == "embedded" else "random"
        clip = BackboneOptions(model, weights, precision, device).load()
        made, now, federation = _trained(method, clip, count, classes, images, experts)
        cold = _as_new(made)
        _, _, first = _timed(cold, lambda: evaluate(cold, now, federation))  # noqa: B023
        runs = [_timed(made, lambda: evaluate(made, now, federation)) for _ in range(repeats)]  # noqa: B023
        wall, cpu = (float(np.median([run[place] for run in runs])) for place in (1, 2))
        expected, plain_wall, plain_cpu = _timed(made, lambda: _plain(made, now, federation))  # noqa: B023
        gap = _largest_difference(made, now, federation, expected, TOLERANCE[precision])
        milliseconds = [1e3 * each / count for each in (wall, cpu, first, plain_wall, plain_cpu)]
        on_gpu = clip.device.type == "cuda"  # whose work no CPU's clock counts
        ratio = f"{plain_wall / wall if on_gpu else plain_cpu / cpu:.1f}x"
        row = (f"{count:,}", *(f"{each:.2f}" for each in milliseconds), ratio, f"{gap:.1e}")
        table.add_row(*row)
        rows.append(dict(zip(headings, row, strict=True)))
    Console(width=120).print(table)
    if json_file is not None:
        Path(json_file).write_text(json.dumps(rows))


def _trained(
    name: str, clip: FrozenCLIP, count: int, classes: int, images: int, experts: int
) -> tuple[AnyMethod, FederationState[Any], Federation]:
    """Two rounds of one step each: everybody has taken part, and holds experts where there are."""
    names = tuple(f"thing number {i}" if i % 3 else f"object {i}" for i in range(classes))
    training = Training(epochs=1, batch_size=images, learning_rate=0.1)
    options = {"experts": experts} if name == "pfedmoap" else {}
    kind: Any = method_class(name)  # its options are its own
    method: AnyMethod = kind(Setting(clip, names, training), **options)
    data = {ClientId(i): _data(i, images, classes, clip.embed_dim) for i in range(count)}
    state: Any = method.init()
    local_states: dict[ClientId, Any] = {}
    for round in (1, 2):
        downloads = method.plan(state, sorted(data), round)
        tasks = [
            ClientTask(each, local_states.get(each.client), data[each.client]) for each in downloads
        ]
        results = method.train(tasks, NoPrivacy())
        updates: list[Update] = [result.update for result in results]
        local_states = {result.update.client: result.local for result in results}
        state = method.aggregate(state, updates)
    labels = np.zeros(1, dtype=np.int64)
    nothing = ClientSplit(labels[:0], labels[:0])
    dataset = ImageDataset("bench", names, labels, labels == 0, lambda _: None, "bench")
    federation = Federation(
        dataset, {client: Client(own, own, nothing, None) for client, own in data.items()}
    )
    return method, FederationState(2, state, local_states), federation


def _data(client: int, images: int, classes: int, width: int) -> ClientData:
    stream = generator(0, "bench", client)
    image = F.normalize(torch.randn(images, 1, width, generator=stream), dim=-1)
    return ClientData({"image": image}, torch.randint(classes, (images,), generator=stream))


def _as_new(method: Any) -> AnyMethod:  # a dataclass by convention
    """The same method, which has encoded nothing yet."""
    made: AnyMethod = replace(method)
    return made


@dataclass(frozen=True)
class _Plain:
    """One client, evaluated alone: its answers, accuracy and macro-F1.

    Attributes:
        ahead: How much more probable each answer is than the next one, (n,).
    """

    answers: Answers
    ahead: NDArray[np.float64]
    accuracy: float
    macro_f1: float


def _plain(
    method: AnyMethod, now: FederationState[Any], federation: Federation
) -> dict[ClientId, _Plain]:
    """Evaluate the personal models, one after the other."""
    found = {}
    for download in method.plan(now.state, sorted(federation.clients), now.round + 1):
        test = federation.clients[download.client].test
        local = now.local_states.get(download.client)
        logits = method.predict(download, local, test.view()).logits.cpu().double()
        most, order = logits.softmax(-1).topk(2)
        labels, predicted = test.labels.numpy(), order[:, 0].numpy()
        present = np.unique(labels)
        f1 = f1_score(labels, predicted, labels=present, average="macro", zero_division=0.0)
        answers, ahead = Answers(predicted, most[:, 0].numpy()), (most[:, 0] - most[:, 1]).numpy()
        accuracy = float((labels == predicted).mean())
        found[download.client] = _Plain(answers, ahead, accuracy, float(f1))
    return found


def _largest_difference(
    method: AnyMethod,
    now: FederationState[Any],
    federation: Federation,
    expected: Mapping[ClientId, _Plain],
    tolerance: float,
) -> float:
    """Largest difference of a probability; classes, accuracies and macro-F1 must be the same.

    Classes may differ where two are as probable as each other, within the tolerance.
    """
    local_states = states_for_prediction(method, now, federation)
    predicted = predict_clients(method, now, local_states, federation)
    gaps = []
    for one, score in zip(predicted, evaluate(method, now, federation), strict=True):
        plain, own = expected[one.client], one.personal
        gaps.append(np.abs(own.confidence - plain.answers.confidence).max())
        others = own.predicted != plain.answers.predicted
        figures = abs(score.accuracy - plain.accuracy) + abs(score.macro_f1 - plain.macro_f1)
        wrong = (plain.ahead[others] > tolerance).any() or (figures > 1e-5 and not others.any())
        if wrong or not gaps[-1] <= tolerance:
            raise SystemExit(f"the two ways disagree on client {one.client}: {score}, {plain}")
    return float(max(gaps))


def _timed(method: AnyMethod, call: Callable[[], T]) -> tuple[T, float, float]:
    """Result, seconds, and CPU seconds of all threads."""
    began, cpu = perf_counter(), process_time()
    result = call()
    if method.setting.backbone.device.type == "cuda":
        torch.cuda.synchronize()
    return result, perf_counter() - began, process_time() - cpu
