"""Measure the pool of experts: latency, recall, memory and updates, against a flat FAISS index.

For each size and kind of prompts: one query, a plan for many at once, the approximate search where
the pool chooses it, an update, and the check of the recall. Kinds are ``trained``, made as trained
prompts are (deviations of low rank); ``iid``, noise; and ``run``, prompts of a real run: as many as
it has are its own, and each further one is one of them, moved by a share of the difference between
two others. The flat index answers the same queries in the same run, part by part where all prompts
would not fit into memory; it has whole numbers, so that recall counts what 16 bits lose, too.
"""

import json
import resource
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from time import process_time
from typing import Literal

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pfedmoap.config.server import PoolOptions
from pfedmoap.runs.directory import RunDirectory
from pfedmoap.server.expert_pool import ExpertPool
from pfedmoap.wire.messages import ClientId

Row = dict[str, str]
Kind = Literal["trained", "iid", "run"]
PART_NUMBERS = 2**25
UPDATES = 5
APART = 0.3  # of the difference between two prompts of a run


@dataclass(frozen=True)
class Prompts:
    """Any number of prompts, made when they are read, the same ones each time.

    Attributes:
        kind: How they are made.
        width: Numbers of one.
        rank: Directions along which trained ones differ.
        clusters: Groups of similar ones.
        known: Those of a run, (n, d).
    """

    kind: Kind
    width: int
    rank: int
    clusters: int
    known: Tensor | None

    @property
    def each(self) -> int:
        """Prompts that are made at once."""
        return max(1, PART_NUMBERS // self.width)

    def parts(self, count: int) -> Iterator[tuple[int, Tensor]]:
        """The first ``count`` of them in parts, each with its first row."""
        for begin in range(0, count, self.each):
            yield begin, self._part(begin // self.each)[: count - begin]

    def rows(self, chosen: NDArray[np.int64]) -> Tensor:
        """Some of them, ascending."""
        found = []
        for number in np.unique(chosen // self.each).tolist():
            inside = chosen[chosen // self.each == number] % self.each
            found.append(self._part(number)[torch.from_numpy(inside)])
        return torch.cat(found)

    def _part(self, number: int) -> Tensor:
        stream = torch.Generator().manual_seed(1 + number)
        if self.kind == "iid":
            return torch.randn(self.each, self.width, generator=stream).mul_(0.02)
        if self.known is not None:
            chosen = torch.randint(len(self.known), (3, self.each), generator=stream)
            made = self.known[chosen[1]] - self.known[chosen[2]]
            made.mul_(APART).add_(self.known[chosen[0]])
            own = self.known[number * self.each : (number + 1) * self.each]
            made[: len(own)] = own
            return made
        ways, groups, around = self._common
        of = torch.randint(self.clusters, (self.each,), generator=stream)
        where = groups[of] + 0.3 * torch.randn(self.each, self.rank, generator=stream)
        some = torch.randint(len(around), (self.each,), generator=stream)
        return around[some].addmm_(where, ways, alpha=0.01)

    @cached_property
    def _common(self) -> tuple[Tensor, Tensor, Tensor]:
        """Directions, groups, and 4,096 places beside the common start, of which each has one."""
        stream = torch.Generator().manual_seed(0)
        ways = torch.randn(self.rank, self.width, generator=stream)
        groups = torch.randn(self.clusters, self.rank, generator=stream)
        start = torch.randn(self.width, generator=stream).mul_(0.02)
        noise = torch.randn(4096, self.width, generator=stream).mul_(3e-4)
        return ways, groups, noise.add_(start)


def main(
    sizes: tuple[int, ...] = (1_000, 10_000, 100_000),
    kinds: tuple[Kind, ...] = ("trained", "iid"),
    length: int = 4,
    width: int = 512,
    rank: int = 32,
    clusters: int = 100,
    run: str | None = None,
    k: int = 10,
    queries: int = 50,
    update: int = 100,
    exact_below: int = 20_000,
    precision: Literal["exact", "float16"] = "exact",
    rows: Literal["memory", "mapped"] = "memory",
    threads: int = 1,
    json_file: str | None = None,
) -> None:
    """Print a table.

    Args:
        sizes: Prompts in the pool; a million of 16 x 512 take 16 GiB with ``float16``.
        kinds: See above.
        length: Vectors of a prompt; that of a run's prompts for ``run``.
        width: Their width.
        rank: Directions along which trained prompts differ.
        clusters: Groups of similar clients.
        run: A run of pfedmoap, whose pool ``run`` reads.
        k: Experts that are looked for.
        queries: Clients whose experts are looked for.
        update: Clients in a round.
        exact_below: The pool's option.
        precision: The pool's option.
        rows: The pool's option.
        threads: CPU threads.
        json_file: Where rows are written, too.
    """
    torch.set_num_threads(threads)
    faiss.omp_set_num_threads(threads)
    options = PoolOptions(exact_below=exact_below, precision=precision, rows=rows)
    known = None if run is None else RunDirectory(run).load_server()["pool.contexts"].float()
    table: list[Row] = []
    for size in sizes:
        for kind in kinds:
            own = known if kind == "run" else None
            shape = (length, width) if own is None else tuple(own.shape[1:])
            flat = None if own is None else own.flatten(1)
            prompts = Prompts(kind, shape[0] * shape[1], rank, clusters, flat)
            found = _measure(prompts, shape, size, queries, update, k, options)
            described = {"prompts": f"{size:,} x {shape[0]} x {shape[1]}", "kind": kind}
            table.append(described | found)
            print(" ".join(f"{name} {value};" for name, value in table[-1].items()), flush=True)
    if json_file is not None:
        Path(json_file).write_text(json.dumps(table))


def _measure(
    prompts: Prompts,
    shape: tuple[int, ...],
    size: int,
    queries: int,
    update: int,
    k: int,
    options: PoolOptions,
) -> Row:
    """One row of the table; times are CPU milliseconds."""
    making, started = [0.0], process_time()

    def parts() -> Iterator[dict[ClientId, Tensor]]:
        given = prompts.parts(size)
        while True:
            began = process_time()
            made = next(given, None)
            making[0] += process_time() - began
            if made is None:
                return
            yield _by_client(*made, shape)

    pool = ExpertPool.gathered(parts(), options)
    pool.nearest(ClientId(0), k)
    build = process_time() - started - making[0]
    asked = np.arange(0, size, max(1, size // queries))[:queries]
    clients = [ClientId(client) for client in asked.tolist()]
    one = [_time(partial(pool.nearest, client, k)) for client in clients]
    plan = _time(lambda: pool.nearest_all(clients, k)) / len(asked)
    found = pool.nearest_all(clients, k)
    resident = _resident()

    truth, slow = _flat(prompts, size, asked, k)
    hits = [
        len({expert.client for expert in found[client]} & ({*near.tolist()} - {client}))
        for client, near in zip(clients, truth, strict=True)
    ]
    recall = sum(hits) / (min(k, size - 1) * len(asked))
    approximate = bool(pool.searched.get("approximate"))
    if not approximate and options.precision == "exact" and recall < 0.999:
        # float32 and float64 may differ about a tie
        raise SystemExit(f"the exact search agrees with the flat index in {recall:.4f} alone")
    joining = prompts.rows(np.arange(size, size + update * UPDATES))
    spent, screening, planted = [], [], set()
    pool.screened(options)
    for number in range(UPDATES):
        new = joining[number * update : (number + 1) * update].view(-1, *shape)
        half = update // 2
        later = {ClientId(size + number * half + i): new[i] for i in range(half)}
        later |= {ClientId((number * update + i) % size): new[i] for i in range(half, update)}
        copied, copy = ClientId(size - 1 - number), ClientId(size + number * half)
        later[copy] = pool[copied]
        planted.add(copy)
        grown: list[ExpertPool] = []
        spent.append(_time(lambda: grown.append(pool.put(later))))  # noqa: B023  # called at once
        pool = grown[0]
        screening.append(_time(partial(pool.screened, options)))
        if not planted <= pool.screened(options).reasons.keys():
            raise SystemExit("screening misses a copy of a prompt")
    return {
        "precision": f"{options.precision}, {options.rows}",
        "flat FAISS, one query": f"{slow:.2f}",
        "one query, p50": f"{np.percentile(one, 50):.2f}",
        "p95": f"{np.percentile(one, 95):.2f}",
        "in a plan": f"{plan:.2f}",
        "one / in a plan": f"{np.median(one) / plan:.1f}x",
        f"recall@{k}": f"{recall:.3f}",
        f"update of {update}": f"{np.median(spent):.1f}",
        "screening after it": f"{np.median(screening):.1f}",
        "build s": f"{build:.1f}",
        "resident GiB": resident,
        "search": "approximate" if approximate else "exact",
    }


def _by_client(begin: int, part: Tensor, shape: tuple[int, ...]) -> dict[ClientId, Tensor]:
    clients = (ClientId(begin + row) for row in range(len(part)))
    return dict(zip(clients, part.view(-1, *shape), strict=True))


def _flat(
    prompts: Prompts, size: int, asked: NDArray[np.int64], k: int
) -> tuple[NDArray[np.int64], float]:
    """The true neighbours of some prompts, themselves among them, and the milliseconds of one."""
    points = prompts.rows(asked).numpy()
    best, rows = np.empty((len(asked), 0), np.float32), np.empty((len(asked), 0), np.int64)
    timed, spent = points[: min(10, len(points))], 0.0
    for begin, part in prompts.parts(size):
        index = faiss.IndexFlatL2(part.shape[1])
        index.add(part.numpy())
        spent += _time(lambda: [index.search(row[None], k + 1) for row in timed])  # noqa: B023
        squared, ids = index.search(points, min(k + 1, len(part)))
        both, there = np.hstack([best, squared]), np.hstack([rows, ids + begin])
        order = np.argsort(both, axis=1, kind="stable")[:, : k + 1]
        best, rows = (np.take_along_axis(each, order, axis=1) for each in (both, there))
    return rows, spent / len(timed)


def _resident() -> str:
    """Memory of the process now, that of files beside it where there is much, and its peak."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return f"at most {peak:.2f}"
    now = {line.split(":")[0]: int(line.split()[1]) / 2**20 for line in lines if "kB" in line}
    mapped = now["RssFile"] + now["RssShmem"]
    return f"{now['RssAnon']:.2f} + {mapped:.2f} of files, peak {peak:.2f}"


def _time(work: Callable[[], object]) -> float:
    """CPU milliseconds, which other programs on the machine do not change much."""
    started = process_time()
    work()
    return 1000 * (process_time() - started)
