"""Measure the pool of experts: latency, recall, memory and updates, against a flat FAISS index.

For each size, for prompts as trained ones are (deviations of low rank) and for independent noise:
one query, a plan for many at once, the approximate search where the pool chooses it, and an update.
The flat index answers the same queries in the same run; exact answers must agree with its own.
"""

import resource
from collections.abc import Callable
from functools import partial
from time import perf_counter, process_time

import faiss
import numpy as np
import torch
from jsonargparse import auto_cli
from torch import Tensor

from pfedmoap.config.server import PoolOptions
from pfedmoap.server.expert_pool import ExpertPool
from pfedmoap.wire.messages import ClientId

K = 9


def main(
    sizes: tuple[int, ...] = (1_000, 10_000, 100_000),
    length: int = 4,
    width: int = 512,
    rank: int = 32,
    clusters: int = 100,
    queries: int = 50,
    update: int = 100,
    exact_below: int = 20_000,
    threads: int = 1,
) -> None:
    """Print a table.

    Args:
        sizes: Prompts in the pool; ``[1000000]`` takes 3 x 8 GiB at 4 x 512.
        length: Vectors of a prompt.
        width: Their width.
        rank: Directions along which trained prompts differ.
        clusters: Groups of similar clients.
        queries: Clients whose experts are looked for.
        update: Clients in a round.
        exact_below: The pool's option.
        threads: CPU threads.
    """
    torch.set_num_threads(threads)
    faiss.omp_set_num_threads(threads)
    print(f"prompts of {length} x {width}, k = {K}, {threads} threads; CPU ms")
    print(
        f"{'prompts':>9} {'kind':8}{'flat FAISS':>11}{'in a plan':>10}{'p50':>8}{'p95':>8}"
        f"{'recall':>8}{'update':>8}{'build s':>8}{'rows GiB':>9}{'peak GiB':>9}"
    )
    for size in sizes:
        total, flat = size + update, length * width
        for kind in ("trained", "iid"):
            prompts = (
                _trained(total, flat, rank, clusters) if kind == "trained" else _noise(total, flat)
            )
            print(
                f"{size:9,} {kind:8}"
                + _measure(prompts, (length, width), size, queries, exact_below)
            )


def _measure(
    prompts: Tensor, shape: tuple[int, int], size: int, queries: int, exact_below: int
) -> str:
    """One line of the table; prompts beyond ``size`` are those of an update."""
    clients = [ClientId(client) for client in range(len(prompts))]
    contexts = dict(zip(clients, prompts.view(-1, *shape), strict=True))
    joining, staying = clients[size:], clients[:size]
    started = perf_counter()
    pool = ExpertPool({c: contexts[c] for c in staying}, PoolOptions(exact_below=exact_below))
    pool.nearest(clients[0], K)
    build = perf_counter() - started
    asked = staying[:: max(1, size // queries)][:queries]
    one = [_time(partial(pool.nearest, client, K)) for client in asked]
    plan = _time(lambda: pool.nearest_all(asked, K)) / len(asked)
    found = pool.nearest_all(asked, K)

    flat = faiss.IndexFlatL2(prompts.shape[1])
    flat.add(prompts[:size].numpy())
    rows = prompts[asked].numpy()
    slow = _time(lambda: [flat.search(row[None], K + 1) for row in rows]) / len(asked)
    truth = flat.search(rows, K + 1)[1]
    hits = [
        len({expert.client for expert in found[client]} & {*near.tolist()} - {client})
        for client, near in zip(asked, truth, strict=True)
    ]
    recall = sum(hits) / (K * len(asked))
    if (
        not pool.searched.get("approximate") and recall < 0.999
    ):  # float32 and float64 may differ about a tie
        raise ValueError(f"the exact search agrees with the flat index in {recall:.4f} alone")
    name = "approx." if pool.searched.get("approximate") else "exact"
    grown = pool.put({client: contexts[client] for client in joining[::2]})  # the array grows
    later = {client: contexts[client] for client in joining[1::2]}
    later |= dict.fromkeys(staying[: len(joining) // 2], contexts[joining[0]])
    spent = _time(lambda: grown.put(later))
    rows_gib = prompts[:size].numel() * 4 / 2**30
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return (
        f"{slow:11.2f}{plan:10.2f}{np.percentile(one, 50):8.2f}{np.percentile(one, 95):8.2f}"
        f"{recall:8.3f}{spent:8.2f}{build:8.1f}{rows_gib:9.2f}{peak:9.2f}  {name}"
    )


def _time(work: Callable[[], object]) -> float:
    """CPU milliseconds, which other programs on the machine do not change much."""
    started = process_time()
    work()
    return 1000 * (process_time() - started)


def _trained(count: int, width: int, rank: int, clusters: int) -> Tensor:
    """Prompts that differ along a few directions, in groups, with a little noise."""
    stream = torch.Generator().manual_seed(0)
    ways = torch.randn(rank, width, generator=stream)
    groups = torch.randn(clusters, rank, generator=stream)
    of = torch.randint(clusters, (count,), generator=stream)
    where = groups[of] + 0.3 * torch.randn(count, rank, generator=stream)
    made = 0.02 * torch.randn(width, generator=stream) + 0.01 * where @ ways
    return made + 3e-4 * torch.randn(count, width, generator=stream)


def _noise(count: int, width: int) -> Tensor:
    """Prompts without any structure."""
    return 0.02 * torch.randn(count, width, generator=torch.Generator().manual_seed(0))


if __name__ == "__main__":
    auto_cli(main, as_positional=False, allow_abbrev=False)
