"""Measure seconds per training step and round, of this package and of a plain implementation.

The plain implementation works like the released research code of the field: every prompt as a
full-length sequence for every class, images through the image tower in every step, experts encoded
by every client separately, one client after the other. Both run in this process on the same
weights and data, and their trained prompts are compared.
"""

import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, Literal, TypeVar

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F

from pfedmoap.client.batches import Stream, shuffled_epochs
from pfedmoap.client.local_training import Training
from pfedmoap.client.privatizer import NoPrivacy
from pfedmoap.contract.tasks import ClientData, ClientTask, Setting
from pfedmoap.methods.pfedmoap.attention_gate import AttentionGate
from pfedmoap.methods.pfedmoap.method import PFedMoAP
from pfedmoap.models.clip.clip import FrozenCLIP
from pfedmoap.models.loading import BackboneOptions
from pfedmoap.models.logits import cosine_logits
from pfedmoap.seeding import generator
from pfedmoap.wire.messages import ClientId, Download

T = TypeVar("T")


def main(
    model: str = "ViT-B-16",
    classes: tuple[int, ...] = (10, 100),
    clients: int = 5,
    experts: int = 2,
    batch_size: int = 16,
    context_length: int = 16,
    repeats: int = 3,
    threads: int = 2,
    device: str = "auto",
    precision: Literal["fp32", "bf16", "fp16"] = "fp32",
    compile: bool = False,  # noqa: A002  # the option's name
    json_file: str | None = None,
) -> None:
    """Print seconds and ratios.

    Args:
        model: An open_clip architecture; with random weights.
        classes: Numbers of classes to measure.
        clients: Clients in the round.
        experts: Non-local experts of each client.
        batch_size: Images in a step; each client holds one batch.
        context_length: Context vectors of a prompt.
        repeats: Runs of this package's way; the median is printed. The plain way runs once. On a
            GPU each way also runs once before: what is captured or set up once is not counted.
        threads: CPU threads.
        device: Where to run.
        precision: Number format of the towers, in both ways.
        compile: See ``training.compile``; the plain way is not compiled.
        json_file: Where rows are written, too.
    """
    torch.set_num_threads(threads)
    clip = BackboneOptions(model, "random", precision, device).load()
    size = clip.preprocessing.size
    stream = generator(0, "bench")
    images = [torch.randn(batch_size, 3, size, size, generator=stream) for _ in range(clients)]
    cached, encoding = _timed(clip, lambda: [clip.image_features(own).cpu() for own in images])
    table = Table(
        title=f"{model}, {precision}, {clip.device}, {threads} threads, {clients} clients, "
        f"{experts} experts, batch {batch_size}" + (", compiled" if compile else ""),
        title_justify="left",
    )
    headings = ("classes", "measured", "plain s", "here s", "ratio", "largest difference")
    for heading in headings:
        table.add_column(heading, justify="right")
    rows = []
    for count in classes:
        names = [f"thing number {i}" if i % 3 else f"object {i}" for i in range(count)]
        tolerance = 1e-3 if precision == "fp32" else 0.1
        for row in _measure(
            clip, names, images, cached, experts, context_length, repeats, tolerance, compile
        ):
            table.add_row(str(count), *row)
            rows.append(dict(zip(headings, (str(count), *row), strict=True)))
    Console(width=120).print(table)
    if json_file is not None:
        Path(json_file).write_text(json.dumps(rows))
    print(f"encoding each image once and for all took {encoding:.2f} s, outside the figures above")


def _measure(
    clip: FrozenCLIP,
    names: Sequence[str],
    images: Sequence[Tensor],
    cached: Sequence[Tensor],
    experts: int,
    length: int,
    repeats: int,
    tolerance: float,
    compiled: bool,
) -> list[tuple[str, ...]]:
    count, batch, on_gpu = len(images), len(images[0]), clip.device.type == "cuda"
    stream = generator(1, "bench", len(names))
    prompts = 0.02 * torch.randn(1 + experts, length, clip.text_width, generator=stream)
    labels = [torch.randint(0, len(names), (batch,), generator=stream) for _ in images]
    arrays = {
        "context": prompts[0],
        "experts": prompts[1:],
        "expert_clients": torch.arange(experts) + count,
    }
    tasks = [
        ClientTask(
            Download(2, ClientId(i), arrays),
            {},
            ClientData({"image": cached[i].unsqueeze(1)}, labels[i]),
        )
        for i in range(count)
    ]

    def here(epochs: int) -> tuple[list[Tensor], float]:
        training = Training(
            epochs=epochs, batch_size=batch, clients_per_batch=count, compile=compiled
        )
        method = PFedMoAP(Setting(clip, tuple(names), training), experts, context_length=length)
        times = []
        if on_gpu:
            method.train(tasks, NoPrivacy())
        for _ in range(repeats):
            results, seconds = _timed(clip, lambda: method.train(tasks, NoPrivacy()))
            times.append(seconds)
        return [result.update.arrays["context"] for result in results], statistics.median(times)

    here(1)  # what is done once a process, such as packing weights, is no part of a round
    contexts, round_here = here(1)
    further = 10 if on_gpu else 2  # steps, of which one takes too little time to be seen
    step_here = (here(1 + further)[1] - round_here) / (further * count)
    encode = clip.prompt_encoder(names, length, shared_prefix=False)
    step_plain = []

    def plain_of(some: int) -> list[Tensor]:
        trained = []
        for task, own in zip(tasks[:some], images[:some], strict=True):
            gate = AttentionGate().to(clip.device)
            prompt = prompts[0].clone().to(clip.device).requires_grad_()
            groups: list[dict[str, Any]] = [  # torch's own type
                {"params": [prompt], "lr": 0.002},
                {"params": list(gate.parameters()), "lr": 0.01},
            ]
            optimiser = torch.optim.SGD(groups, momentum=0.9, weight_decay=5e-4)
            with torch.no_grad():
                frozen = torch.cat([encode(p[None].to(clip.device)) for p in prompts[1:]])
            order = shuffled_epochs([batch], 1, [Stream(0, task.download.client, 2)], 1, batch)
            chosen = order.index[0, 0]

            def step() -> None:
                image = clip.image_features(own[chosen])  # noqa: B023  # called at once
                text = encode(prompt[None])  # noqa: B023
                mixed = torch.cat([text, frozen])  # noqa: B023
                scores, _ = gate(image, mixed)  # noqa: B023
                logits = clip.logit_scale * scores
                logits = logits + 0.5 * cosine_logits(image, text[0], clip.logit_scale)
                target = task.data.labels[chosen].to(clip.device)  # noqa: B023
                optimiser.zero_grad()  # noqa: B023
                F.cross_entropy(logits, target).backward()
                optimiser.step()  # noqa: B023

            step_plain.append(_timed(clip, step)[1])
            trained.append(prompt.detach().cpu())
        return trained

    if on_gpu:
        plain_of(1)
        step_plain.clear()
    expected, round_plain = _timed(clip, lambda: plain_of(count))
    moved = max(float((e - prompts[0]).abs().max()) for e in expected)
    gap = max(float((a - b).abs().max()) for a, b in zip(contexts, expected, strict=True))
    apart = [
        float((a - b).norm() / (b - prompts[0]).norm())
        for a, b in zip(contexts, expected, strict=True)
    ]
    if not max(apart) <= tolerance:
        raise SystemExit(
            f"the two ways disagree: a prompt's move differs by {max(apart):.2e} of its length "
            f"({gap:.2e} where prompts moved {moved:.2e})"
        )
    agreement = f"{gap:.1e} of {moved:.1e}"
    plain_step = statistics.median(step_plain)
    return [
        (
            "step, one client",
            f"{plain_step:.3f}",
            f"{step_here:.4f}",
            f"{plain_step / step_here:.0f}x",
            agreement,
        ),
        (
            "round, all clients",
            f"{round_plain:.3f}",
            f"{round_here:.4f}",
            f"{round_plain / round_here:.0f}x",
            agreement,
        ),
    ]


def _timed(clip: FrozenCLIP, call: Callable[[], T]) -> tuple[T, float]:
    """A result and its seconds: of the wall on a GPU, of one thread's computing on a CPU.

    A busy machine blurs the wall's, and both ways compute on the same threads.
    """
    began, computed = perf_counter(), process_time()
    result = call()
    if clip.device.type == "cuda":
        torch.cuda.synchronize()
        return result, perf_counter() - began
    return result, (process_time() - computed) / torch.get_num_threads()
