"""Measure what a federation's messages cost, beside Flower's own strategy for the same payload.

Both run in this process's Flower simulation, one after the other, on the same simulated nodes: our
server's rounds, and Flower's `FedAvg` with the client of its examples. Nodes train nothing: they
return what they were sent. So what is measured is the engine. Beside the median round the table has
what the server's thread computes for each client, in Flower's grid and beside it (signing,
checking, planning, averaging), and what a node computes for a message. ``share`` is what the engine
computes of a round's seconds; in the rest Flower carries messages, or waits before it looks again.
"""

import json
import os
import tempfile
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from pfedmoap.engine.flower.places import require_extra


def main(
    nodes: int = 100,
    rounds: int = 5,
    model: str = "ViT-B-16",
    experts: int = 9,
    actors: int = 2,
    json_file: str | None = None,
) -> None:
    """Print seconds and milliseconds.

    Args:
        nodes: Simulated nodes, all of which take part in every round.
        rounds: Rounds that are measured; two more go first.
        model: ``embedded``, or an open_clip architecture, whose width a prompt has.
        experts: Experts that pFedMoAP sends to each client beside the prompt.
        actors: Processes of Flower's simulation.
        json_file: Where rows are written, too.
    """
    require_extra()
    from eval.benchmarks.echoes import all_rows
    from pfedmoap.engine.flower.links import set_offline

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as home:
        set_offline(Path(home))
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        rows = all_rows(nodes, rounds, model, experts, actors)
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*map(str, row.values()))
    Console().print(table)
    if json_file is not None:
        Path(json_file).write_text(json.dumps(rows))
