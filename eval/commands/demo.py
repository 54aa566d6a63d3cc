"""``demo``: zero-shot, the gate alone, pFedMoAP and the evidence mixture, offline, in a minute."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.table import Table

from eval.accuracy import ClientScore, summarise
from eval.choices import schema
from eval.commands.errors import readable_errors
from eval.comparison.paired import BySeed, paired_difference
from eval.comparison.tables import interval
from eval.configurations import located, shipped
from eval.console import console, percent, say
from eval.experiment import ExperimentLoader
from eval.running import run_experiment
from pfedmoap.config.exact_options import command_parser, parse
from pfedmoap.errors import ConfigError

VARIANTS: Mapping[str, Mapping[str, Any]] = {  # partial configurations
    "zero-shot": {"method": {"name": "zero_shot"}},
    "gate alone (k = 0)": {"method": {"experts": 0}},
    "pFedMoAP": {},
    "evidence mixture": {"method": {"name": "evidence_mixture"}},
    "evidence mixture, no experts": {"method": {"name": "evidence_mixture", "experts": 0}},
}
REFERENCE = "gate alone (k = 0)"
TASKS = {  # its folder and its file, by what it is
    "digits, ten clients with skewed classes": ("digits", "demo.yaml"),
    "scenes, forty clients in four hidden groups": ("groups", "hidden-groups.yaml"),
}
SHARED = ("context_length", "context_init", "experts")  # options of both methods
MOST_ROWS = 12  # of the table by client

# Figures of docs/results.md, which a test compares.
WHERE_EXPERTS_HELP = (
    "Experts help where clients have relatives that they do not know of: on these hidden "
    "groups, over five seeds, the evidence mixture's bring +2.36 [+1.67, +3.05] points to what it "
    "is without them, and random ones bring +1.13 [+0.30, +1.95] to the gate."
)
WHERE_NOT = (
    "Where clients have classes of their own, pFedMoAP's bring nothing: +0.23 [-0.48, +0.95] on "
    "the digits and -1.07 [-1.63, -0.51] on scenes."
)

Found = dict[str, list[tuple[ClientScore, ...]]]


@readable_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the demo; see ``--help``."""
    parser = command_parser(
        "Train pFedMoAP, its controls and the evidence mixture on two tasks: one on which other "
        "clients' prompts add nothing, and one on which they help."
    )
    parser.add_argument("--out", type=str, default="runs/demo", help="folder for the runs")
    parser.add_argument("--seeds", type=int, default=1, help="repeat with this many seeds")
    parser.add_argument("--resume", type=bool, default=False, help="continue runs in the folder")
    parser.add_argument("--config", type=str | None, help="another YAML file than the demo's own")
    options = parse(parser, arguments)
    if options.seeds < 1:
        raise ConfigError(f"--seeds must be at least 1, got {options.seeds}")
    out = Path(options.out)
    tasks = (
        [(options.config, out, located(options.config).read_text())]
        if options.config
        else [
            (task, out / at, shipped()[file].path.read_text()) for task, (at, file) in TASKS.items()
        ]
    )
    loader = ExperimentLoader()
    for task, folder, text in tasks:
        found = _run(text, folder, options.seeds, loader, resume=options.resume)
        console.print_whole(_summary_table(found, task))
    over = "clients, of this one run" if options.seeds == 1 else "seeds"
    say(
        f"Intervals are Student's t over {over}. {WHERE_EXPERTS_HELP} {WHERE_NOT}\n"
        f"runs: {options.out} (one folder each: configuration, metrics, per_client.csv, every "
        "client's model)"
    )


def _run(text: str, folder: Path, seeds: int, loader: ExperimentLoader, *, resume: bool) -> Found:
    found: Found = {name: [] for name in VARIANTS}
    for seed in range(seeds):
        for name, variant in VARIANTS.items():
            config = _variant(yaml.safe_load(text), variant, seed)
            experiment = loader.prepare(schema().resolve(config))
            run = folder / f"{_slug(name)}-seed{seed}"
            found[name].append(run_experiment(experiment, run, resume=resume).scores)
        of_seed = {name: scores[seed] for name, scores in found.items()}
        if len(of_seed[REFERENCE]) <= MOST_ROWS:
            console.print_whole(_client_table(of_seed, seed))
    return found


def _variant(base: dict[str, Any], variant: Mapping[str, Any], seed: int) -> dict[str, Any]:
    method = dict(variant.get("method", {}))
    shared = {key: base["method"][key] for key in SHARED if key in base["method"]}
    if "name" not in method:
        method = base["method"] | method
    elif method["name"] != "zero_shot":
        method = shared | method
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


def _summary_table(found: Found, task: str) -> Table:
    table = Table(
        title=f"{task}: mean over clients, {len(found[REFERENCE])} seed(s)", title_justify="left"
    )
    for heading in ("", "accuracy % [95%]", "less the gate alone [95%]", "worst decile %"):
        table.add_column(heading, justify="right" if heading else "left")
    accuracy = {name: _by_seed(runs) for name, runs in found.items()}
    nothing = {seed: dict.fromkeys(own, 0.0) for seed, own in accuracy[REFERENCE].items()}
    for name, runs in found.items():
        gap = None if name == REFERENCE else paired_difference(accuracy[name], accuracy[REFERENCE])
        table.add_row(
            name,
            interval(paired_difference(accuracy[name], nothing)).replace("+", "").rstrip("*"),
            interval(gap).rstrip("*") or "-",
            percent(float(np.mean([summarise(scores).worst_decile for scores in runs]))),
        )
    return table


def _by_seed(runs: Sequence[tuple[ClientScore, ...]]) -> BySeed:
    return {
        seed: {score.client: score.accuracy for score in scores} for seed, scores in enumerate(runs)
    }
