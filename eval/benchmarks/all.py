"""Run all benchmarks one after the other and write their tables to a page.

Each runs as a process of its own, measures the plain way in the same run, and ends with an error
where the two ways disagree: then nothing of it is written, the others are run, and the end is an
error, too. The page has one part for CPUs and one for GPUs; a run replaces what it measured again,
each table with its machine, as soon as it has it, and leaves the rest.
`quick` takes minutes, on a small model, and checks that everything runs.
"""

import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Literal

import torch

from pfedmoap.config.suggestions import none_such
from pfedmoap.errors import ConfigError

Device = Literal["cpu", "cuda"]
LARGE = ": large sizes"
"""Ends the heading of what is only measured where it is asked for: other runs leave it."""

PROGRAM = (sys.executable, "-m", "eval.cli", "bench")
PARTS: dict[Device, str] = {"cpu": "On a CPU", "cuda": "On a GPU"}
EMPTY = "# Performance\n" + "".join(f"\n## {part}\n" for part in PARTS.values())


@dataclass(frozen=True)
class Benchmark:
    """One benchmark with what it is given, by device and size; no entry means that it does not run.

    Attributes:
        title: Its heading on the page.
        name: A part of `pfedmoap bench`.
        cpu: Arguments of full runs on a CPU, each a run of its own.
        cuda: The same on a GPU.
        quick: Arguments of the quick run, on either.
        large: Arguments of runs on a CPU that are only made where they are asked for.
        takes_device: Whether it can be told where to run.
    """

    title: str
    name: str
    cpu: tuple[str, ...] = ()
    cuda: tuple[str, ...] = ()
    quick: tuple[str, ...] = ()
    large: tuple[str, ...] = ()
    takes_device: bool = True


_ROUND = "--model ViT-B-16 --precision bf16 --experts 9 --epochs 5 --repeats 2 --privacy []"
BENCHMARKS = (
    Benchmark(
        "A step and a round against the plain way",
        "step",
        cpu=(
            "--threads 1 --repeats 1 --clients 5 --classes [10]",
            "--threads 1 --repeats 1 --clients 2 --classes [100]",
            "--threads 1 --repeats 1 --clients 5 --classes [10] --precision bf16",
        ),
        cuda=(
            "--clients 50 --experts 9",
            "--clients 50 --experts 9 --precision bf16",
            "--clients 50 --experts 9 --precision bf16 --compile true",
        ),
        quick=("--model ViT-S-32-alt --classes [5] --clients 2 --repeats 1",),
        large=("--threads 1 --repeats 1 --clients 2 --classes [100] --precision bf16",),
    ),
    Benchmark(
        "A round: captured steps against the plain loop, and private steps against plain ones",
        "round",
        cpu=("--clients 10 --epochs 3",),
        cuda=(
            f"{_ROUND} --clients 1000 --clients_per_batch 200 --classes [10,100]",
            f"{_ROUND} --clients 1000 --clients_per_batch 200 --classes [10] --compile true",
            f"{_ROUND} --clients 1000 --clients_per_batch 200 --classes [100] --compile true",
            "--model ViT-B-16 --clients 10 --clients_per_batch 10 --classes [10]",
            "--model ViT-B-16 --clients 50 --clients_per_batch 50 --classes [10]",
            "--model ViT-B-16 --clients 50 --clients_per_batch 50 --classes [10] --tf32 true",
        ),
        quick=("--clients 3 --epochs 1 --repeats 1",),
    ),
    Benchmark(
        "A private step against a plain one, and against one backward pass an example",
        "privacy",
        cpu=("--classes [10] --repeats 1",),
        cuda=("--classes [10] --clients 10", "--classes [10] --clients 50"),
        quick=("--model ViT-S-32-alt --classes [4] --batch_size 4 --repeats 1",),
    ),
    Benchmark(
        "Evaluation of many clients",
        "evaluation",
        cpu=("--clients [100]",),
        cuda=(
            "--model ViT-B-16 --classes 10 --clients [1000]",
            "--model ViT-B-16 --classes 10 --clients [1000] --precision bf16",
            "--model ViT-B-16 --classes 100 --clients [1000] --precision bf16",
        ),
        quick=("--clients [5] --repeats 1",),
        large=("--clients [10000] --repeats 1",),
    ),
    Benchmark(
        "Encoding images",
        "images",
        cpu=("--images 100",),
        cuda=("--images 12000 --model ViT-B-16 --precision bf16",),
        quick=("--images 16",),
    ),
    Benchmark(
        "The pool of experts",
        "pool",
        cpu=("--sizes [1000,10000,100000]",),
        quick=("--sizes [500] --queries 5",),
        large=(
            "--sizes [100000,1000000] --precision float16",
            "--sizes [1000000] --kinds [trained] --length 16 --precision float16 --rows mapped",
            "--sizes [1000000] --kinds [trained] --length 16 --precision float16 --rows memory",
        ),
        takes_device=False,
    ),
    Benchmark(
        "A round beside training",
        "engine",
        cpu=("--rounds 3",),
        quick=("--clients [20] --participation 0.5 --rounds 1 --warm 1 --experts 2",),
        large=("--clients [1000,10000] --rounds 10 --warm 1",),
        takes_device=False,
    ),
    Benchmark(
        "Messages of a federation, beside Flower's own strategy",
        "federation",
        cpu=("--nodes 100",),
        quick=("--nodes 4 --rounds 1 --model embedded",),
        takes_device=False,
    ),
    Benchmark(
        "Starting a command",
        "startup",
        cpu=("",),
        quick=("--repeats 1",),
        takes_device=False,
    ),
)


def main(
    device: Device = "cpu",
    quick: bool = False,
    large: bool = False,
    only: tuple[str, ...] = (),
    page: str | None = None,
) -> None:
    """Run the benchmarks, and write a page of them where one is named.

    Args:
        device: ``cpu`` or ``cuda``.
        quick: Small sizes; without ``page`` nothing is written.
        large: On a CPU, also ten thousand clients and a million prompts: an hour or more, 18 GiB
            of memory, 16 GiB of disk.
        only: Benchmarks to run, e.g. ``[step]``; none runs all.
        page: Markdown page that the tables are written to, made where there is none.
    """
    failed = []
    known = [benchmark.name for benchmark in BENCHMARKS]
    for name in only:
        if name not in known:
            raise ConfigError(none_such("benchmark", name, known))
    for benchmark in BENCHMARKS:
        if only and benchmark.name not in only:
            continue
        wanted = {benchmark.title: benchmark.quick if quick else getattr(benchmark, device)}
        if large and not quick and device == "cpu":
            wanted[benchmark.title + LARGE] = benchmark.large
        for title, runs in wanted.items():
            if not runs:
                continue
            try:
                found = section(replace(benchmark, title=title), runs, device)
            except SystemExit as error:
                print(error, flush=True)
                failed.append(str(error))
                continue
            if page is not None:
                write_part(Path(page), device, {title: found})
    if failed:
        raise SystemExit("\n".join(failed))


def section(benchmark: Benchmark, runs: Sequence[str], device: Device) -> str:
    """Run one benchmark, once for each set of arguments; returns its part of the page.

    Raises:
        SystemExit: It failed, or its two ways disagree.
    """
    lines = [f"### {benchmark.title}", "", machine(device), ""]
    for arguments in runs:
        began = perf_counter()
        given = arguments.split() + (["--device", device] if benchmark.takes_device else [])
        printed, rows = run(benchmark, given)
        command = " ".join(["pfedmoap bench", benchmark.name, *given])
        print(f"{command}: {perf_counter() - began:.0f} s\n{printed}", flush=True)
        lines += [f"`{command}`", "", *markdown(rows), ""]
    return "\n".join(lines)


def run(benchmark: Benchmark, arguments: Sequence[str]) -> tuple[str, list[dict[str, str | float]]]:
    """Run one benchmark; returns what it printed, and its rows."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.json"
        done = subprocess.run(
            [*PROGRAM, benchmark.name, *arguments, "--json_file", str(file)],
            env={**os.environ, "COLUMNS": "120", "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"{benchmark.name} {' '.join(arguments)} failed: {done.stdout}")
        return done.stdout, json.loads(file.read_text())


def markdown(rows: Sequence[dict[str, str | float]]) -> list[str]:
    """Make a table of rows that have the same columns."""
    columns = list(rows[0])
    body = [[str(row[column]) for column in columns] for row in rows]
    rule = ["---", *["--:"] * (len(columns) - 1)]
    return [f"| {' | '.join(line)} |" for line in (columns, rule, *body)]


def machine(device: Device) -> str:
    """Name the machine, its software and the day."""
    if device == "cuda":
        name = torch.cuda.get_device_name()
    else:
        try:
            found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
        except OSError:
            found = None
        name = found[1] if found else platform.processor() or platform.machine()
    cores = f"{os.cpu_count()} cores"
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    return f"Machine: {name}, {cores}; {versions}; {datetime.now(UTC):%Y-%m-%d}."


def write_part(page: Path, device: Device, sections: Mapping[str, str]) -> None:
    """Put tables, by title, into a device's part of the page; older ones of the same title go."""
    text = page.read_text() if page.exists() else EMPTY
    heading = f"## {PARTS[device]}\n"
    before, found, rest = text.partition(heading)
    if not found:
        raise SystemExit(f"{page} has no heading {heading.strip()!r}: put it where the tables go")
    part, divider, after = rest.partition("\n## ")
    kept = {one.partition("\n")[0]: f"### {one}" for one in part.split("### ")[1:]}
    both = {title: body.strip() for title, body in {**kept, **sections}.items()}
    order = [one.title + end for one in BENCHMARKS for end in ("", LARGE)]
    ordered = sorted(both, key=lambda title: order.index(title) if title in order else len(order))
    body = "\n\n".join(both[title] for title in ordered)
    page.write_text(f"{before}{heading}\n{body}\n{divider}{after}")
