"""Distil FedSP's auxiliary model, and measure its quality and what it discloses of the full model.

Takes the options of ``train``, e.g. ``--config FILE --method fedsp --sampling.server_shots 2``.
"""

import re
from collections import defaultdict
from collections.abc import Sequence

import torch
from rich.table import Table
from torch import Tensor

from eval.choices import schema
from eval.commands.errors import readable_errors
from eval.console import console
from eval.experiment import ExperimentLoader
from pfedmoap.errors import ConfigError
from pfedmoap.methods.fedsp.distillation import distil, resemblance
from pfedmoap.methods.fedsp.method import FedSP

BLOCK = re.compile(r"(.*?)(?:block|\w+\.)\d+\.")  # text.block0.mlp, transformer.h.0.mlp


@readable_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Distil and print a table; see ``--help``."""
    config, _ = schema().parse(arguments, __doc__ or "")
    experiment = ExperimentLoader().prepare(config, to_run=False)
    method = experiment.method
    if not isinstance(method, FedSP):
        raise ConfigError("only FedSP has an auxiliary model: use --method fedsp")
    weights, losses = distil(method.protected, method.setting.server_data, method.distillation)
    alike: dict[str, list[Tensor]] = defaultdict(list)
    for name, cosines in resemblance(weights, method.protected.first_weights()).items():
        inside = BLOCK.match(name)
        alike[f"{inside[1].rstrip('.')} blocks" if inside else name].append(cosines)
    table = Table(title="cosine of a row with the model's own", title_justify="left")
    table.add_column("part")
    for heading in ("rows", "median", "largest"):
        table.add_column(heading, justify="right")
    for part, each in alike.items():
        rows = torch.cat(each)
        table.add_row(part, str(len(rows)), f"{rows.median():.3f}", f"{rows.max():.3f}")
    console.print(table)
    size = sum(value.numel() for value in weights.values())
    console.print(f"the auxiliary has {size:,} numbers")
    if losses:
        tenth = max(1, len(losses) // 10)
        first, last = (sum(part) / tenth for part in (losses[:tenth], losses[-tenth:]))
        console.print(f"distillation loss: {first:.4f} over the first tenth, {last:.4f} the last")
