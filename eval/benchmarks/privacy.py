"""Measure seconds per private training step, plain step, and one backward pass per example.

The share of a private step that goes to random numbers (its noise, and drawing its batch) is
measured beside them. All ways run in this process on the same weights and data, and the private
ones' gradients are compared before noise. On a CPU, seconds are those that this process computes,
so that a busy machine does not blur the ratios.
"""

import json
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import perf_counter, process_time
from typing import TypeVar

import torch
from rich.console import Console
from rich.table import Table
from torch.nn import functional as F

from pfedmoap.client.batches import Batch, Stream
from pfedmoap.client.privatizer import NoPrivacy
from pfedmoap.client.problem import Problem
from pfedmoap.methods.pfedmoap.attention_gate import AttentionGate
from pfedmoap.methods.pfedmoap.mixture import GATE, Mixture, MixtureProblem
from pfedmoap.models.clip.clip import FrozenCLIP
from pfedmoap.models.loading import BackboneOptions
from pfedmoap.prompts.tuning import PromptProblem
from pfedmoap.seeding import generator
from pfedmoap.wire.messages import Arrays, ClientId
from privacy.mechanisms.mechanism import SampledGaussian
from privacy.mechanisms.noisy_sum import NoisySum, add_noise
from privacy.mechanisms.randomness import Randomness, SecureStream
from privacy.mechanisms.sampling import poisson_batches

T = TypeVar("T")


def main(
    model: str = "ViT-B-16",
    classes: tuple[int, ...] = (10, 100),
    clients: int = 1,
    experts: int = 9,
    batch_size: int = 16,
    context_length: int = 16,
    repeats: int = 3,
    threads: int = 1,
    memory_bytes: int = 2**30,
    device: str = "auto",
    json_file: str | None = None,
) -> None:
    """Print seconds and ratios.

    Args:
        model: An open_clip architecture; with random weights.
        classes: Numbers of classes to measure.
        clients: Clients side by side.
        experts: Non-local experts in the gated problem.
        batch_size: Examples in a step.
        context_length: Context vectors of a prompt.
        repeats: Runs of the plain and of the private step; medians are printed.
        threads: CPU threads.
        memory_bytes: Memory bound of the private step.
        device: Where to run.
        json_file: Where rows are written, too.
    """
    torch.set_num_threads(threads)
    clip = BackboneOptions(model, "random", device=device).load()
    mechanism = SampledGaussian(1.0, 1.0, batch_size, memory_bytes)
    table = Table(
        title=f"{model}, {clip.device}, {threads} threads, {clients} clients, batch {batch_size}",
        title_justify="left",
    )
    headings = (
        *("classes", "trained", "plain s", "private s", "one by one s"),
        *("private / plain", "one by one / private", "random numbers", "difference"),
    )
    for heading in headings:
        table.add_column(heading, justify="right")
    rows = []
    for count in classes:
        for trained, problem, params, batch in _problems(
            clip, count, clients, experts, batch_size, context_length
        ):

            def plain() -> Arrays:
                return NoPrivacy().gradients(problem, params, batch)[0]  # noqa: B023  # at once

            def private() -> Arrays:
                noise = _streams(clients)
                return mechanism.gradients(problem, params, batch, noise)[0]  # noqa: B023

            plain_seconds = _median(clip, plain, repeats)[1]
            seconds = _median(clip, private, repeats)[1]
            quiet = replace(mechanism, noise_multiplier=0.0)
            found, _ = quiet.gradients(problem, params, batch, _streams(clients))
            expected, slow = _median(
                clip,
                lambda: _one_by_one(quiet, problem, params, batch),  # noqa: B023
                1,
            )
            drawn = _median(clip, lambda: _random_numbers(params, batch), 20)[1]  # noqa: B023
            gap = max(float((found[n] - expected[n]).abs().max()) for n in found)
            if gap > 1e-4:
                raise SystemExit(f"the two private ways disagree by {gap:.2e}")
            row = (
                str(count),
                trained,
                f"{plain_seconds:.3f}",
                f"{seconds:.3f}",
                f"{slow:.3f}",
                f"{seconds / plain_seconds:.1f}x",
                f"{slow / seconds:.1f}x",
                f"{drawn * 1e3:.2f} ms, {drawn / seconds:.2%}",
                f"{gap:.0e}",
            )
            table.add_row(*row)
            rows.append(dict(zip(headings, row, strict=True)))
    Console(width=130).print(table)
    if json_file is not None:
        Path(json_file).write_text(json.dumps(rows))


def _problems(
    clip: FrozenCLIP, count: int, clients: int, experts: int, batch_size: int, length: int
) -> list[tuple[str, Problem, Arrays, Batch]]:
    """The local problem of a prompt alone, and of a prompt with a gate over experts."""
    stream = generator(0, "bench", count)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=stream).to(clip.device)

    names = [f"thing number {i}" if i % 3 else f"object {i}" for i in range(count)]
    encoder = clip.prompt_encoder(names, length)
    image = F.normalize(random(clients, batch_size, clip.embed_dim), dim=-1)
    labels = torch.randint(count, (clients, batch_size), generator=stream).to(clip.device)
    weight = torch.full((clients, batch_size), 1 / batch_size, device=clip.device)
    streams = tuple(Stream(0, ClientId(i), 1) for i in range(clients))
    batch = Batch({"image": image}, labels, weight, streams)
    context = 0.02 * random(clients, length, clip.text_width)
    gate = AttentionGate().to(clip.device)
    gates = {
        GATE + name: value.expand(clients, *value.shape).clone()
        for name, value in gate.state_dict().items()
    }
    served = F.normalize(random(clients, experts, count, clip.embed_dim), dim=-1)
    mixture = MixtureProblem(encoder, Mixture(gate, clip.logit_scale, 0.5), served)
    return [
        ("prompt", PromptProblem(encoder, clip.logit_scale), {"context": context}, batch),
        ("prompt and gate", mixture, {"context": context, **gates}, batch),
    ]


def _one_by_one(
    mechanism: SampledGaussian, problem: Problem, params: Arrays, batch: Batch
) -> Arrays:
    """The micro-batch way: one forward and one backward pass for each example."""
    sums = [
        NoisySum(
            {name: value[row] for name, value in params.items()},
            noise_multiplier=mechanism.noise_multiplier,
            max_norm=mechanism.max_grad_norm,
            normaliser=mechanism.normaliser,
            stream=noise,
        )
        for row, noise in enumerate(_streams(len(batch.labels)))
    ]
    samples: dict[str, list[torch.Tensor]] = {name: [] for name in params}
    for i in range(batch.labels.shape[1]):
        alone = replace(
            batch,
            features={kind: value[:, i : i + 1] for kind, value in batch.features.items()},
            labels=batch.labels[:, i : i + 1],
            weight=torch.ones_like(batch.weight[:, i : i + 1]),
        )
        for name, gradient in NoPrivacy().gradients(problem, params, alone)[0].items():
            samples[name].append(gradient)
    stacked = {name: torch.stack(each, dim=1) for name, each in samples.items()}  # (K, B, ...)
    for row, total in enumerate(sums):
        total.add({name: value[row] for name, value in stacked.items()})
    rows = [total.finish() for total in sums]
    return {name: torch.stack([row[name] for row in rows]) for name in params}


def _random_numbers(params: Arrays, batch: Batch) -> None:
    """Draw the random numbers of one step: each client's Poisson sample, and all noise."""
    randomness = Randomness()
    sizes = [4 * batch.labels.shape[1]] * len(batch.labels)  # at a sampling rate of a quarter
    poisson_batches(
        sizes, 1, batch.streams, steps=1, rate=0.25, normaliser=1.0, randomness=randomness
    )
    for row in range(len(batch.labels)):
        sums = {name: value[row].double() for name, value in params.items()}
        add_noise(sums, 1.0, randomness.stream("noise", row))


def _streams(count: int) -> list[SecureStream]:
    return [Randomness(0).stream(row) for row in range(count)]


def _median(clip: FrozenCLIP, call: Callable[[], T], repeats: int) -> tuple[T, float]:
    clock = perf_counter if clip.device.type == "cuda" else process_time
    seconds = []
    for _ in range(repeats):
        began = clock()
        result = call()
        if clip.device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(clock() - began)
    return result, statistics.median(seconds)
