"""``demo``: compare zero-shot, the gate alone, and pFedMoAP on digits, offline."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.table import Table

from eval.accuracy import ClientScore, summarise
from eval.choices import schema
from eval.commands.errors import readable_errors
from eval.console import console, percent
from eval.experiment import ExperimentLoader
from eval.running import run_experiment
from pfedmoap.config.exact_options import command_parser, parse
from pfedmoap.errors import ConfigError

VARIANTS: Mapping[str, Mapping[str, Any]] = {  # partial configurations
    "zero-shot": {"method": {"name": "zero_shot"}},
    "gate alone (k = 0)": {"method": {"experts": 0}},
    "pFedMoAP": {},
}


@readable_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the demo; see ``--help``."""
    parser = command_parser("Train pFedMoAP and its controls on handwritten digits.")
    parser.add_argument("--out", type=str, default="runs/demo", help="folder for the runs")
    parser.add_argument("--seeds", type=int, default=1, help="repeat with this many seeds")
    parser.add_argument("--resume", type=bool, default=False, help="continue runs in the folder")
    parser.add_argument("--config", type=str | None, help="another YAML file than the demo's own")
    options = parse(parser, arguments)
    if options.seeds < 1:
        raise ConfigError(f"--seeds must be at least 1, got {options.seeds}")
    text = (
        Path(options.config).read_text()
        if options.config
        else (files("eval") / "configs" / "demo.yaml").read_text()
    )
    loader = ExperimentLoader()
    found: dict[str, list[tuple[ClientScore, ...]]] = {name: [] for name in VARIANTS}
    for seed in range(options.seeds):
        for name, variant in VARIANTS.items():
            config = _variant(yaml.safe_load(text), variant, seed)
            out = Path(options.out) / f"{_slug(name)}-seed{seed}"
            experiment = loader.prepare(schema().resolve(config))
            found[name].append(run_experiment(experiment, out, resume=options.resume).scores)
        console.print(_client_table({name: scores[seed] for name, scores in found.items()}, seed))
    console.print(_summary_table(found))
    console.print(
        f"runs: {options.out} (one folder each: configuration, metrics, per_client.csv, every "
        "client's model)\nThe gap between the last two rows is what other clients' prompts add; "
        "the rest of the gain is the private gate and prompt."
    )


def _variant(base: dict[str, Any], variant: Mapping[str, Any], seed: int) -> dict[str, Any]:
    method = dict(variant.get("method", {}))
    if "name" not in method:
        method = base["method"] | method
    seeds = dict.fromkeys(("partition", "few_shot", "training"), seed)
    return base | {"method": method, "seeds": seeds}


def _slug(name: str) -> str:
    return "-".join("".join(c if c.isalnum() else " " for c in name.lower()).split())


def _client_table(scores: Mapping[str, tuple[ClientScore, ...]], seed: int) -> Table:
    table = Table(title=f"Accuracy of each client, seed {seed}", title_justify="left")
    for heading in ("client", "train", "test", *(f"{name} %" for name in scores)):
        table.add_column(heading, justify="right")
    for row in zip(*scores.values(), strict=True):
        figures = [percent(score.accuracy) for score in row]
        table.add_row(
            str(row[0].client), str(row[0].train_images), str(row[0].test_images), *figures
        )
    return table


def _summary_table(found: Mapping[str, list[tuple[ClientScore, ...]]]) -> Table:
    seeds = len(next(iter(found.values())))
    table = Table(title=f"Mean over clients, {seeds} seed(s)", title_justify="left")
    for heading in ("", "accuracy %", "± over seeds", "worst decile %", "global model %"):
        table.add_column(heading, justify="right")
    for name, runs in found.items():
        summaries = [summarise(scores) for scores in runs]
        means = np.array([summary.mean for summary in summaries])
        spread = percent(float(means.std(ddof=1))) if seeds > 1 else "-"
        worst = float(np.mean([summary.worst_decile for summary in summaries]))
        shared = [s.global_union for s in summaries if s.global_union is not None]
        table.add_row(
            name,
            percent(float(means.mean())),
            spread,
            percent(worst),
            percent(float(np.mean(shared)) if shared else None),
        )
    return table
