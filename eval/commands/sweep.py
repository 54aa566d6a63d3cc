"""``sweep``: try many options, choose by held-out training images, test what was chosen."""

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from eval.commands.errors import readable_errors
from eval.configurations import located
from eval.console import console, percent, say
from eval.progress import counted_progress
from eval.sweep.options import SlurmOptions
from eval.sweep.running import CHOSEN, Chosen, run_sweep, warn_of_privacy
from eval.sweep.search import next_trials, planned_trials, require_search
from eval.sweep.spec import TEST, Sweep, read_sweep
from eval.tracking.choose import HELP, Tracks
from pfedmoap.config.exact_options import command_parser, parse


@readable_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Sweep; see ``--help``."""
    parser = command_parser(
        "Try options from one YAML file, choose the best by a validation split of each client, and "
        "test that one."
    )
    parser.add_argument("sweep", type=str, help="YAML file: base, space, search, seeds, executor")
    parser.add_argument("--out", type=str, default="runs/sweep", help="folder of the sweep")
    parser.add_argument(
        "--resume", type=bool, default=False, help="continue the sweep that is in the folder"
    )
    parser.add_argument(
        "--dry-run", type=bool, default=False, help="only print the plan, and Slurm's script"
    )
    parser.add_argument("--quiet", type=bool, default=False, help="show no progress")
    parser.add_argument("--track", type=str, default="", help=HELP)
    options = parse(parser, arguments)
    plan, out = read_sweep(located(options.sweep)), Path(options.out)
    track = Tracks.of(options.track).kinds
    require_search(plan)
    warn_of_privacy(plan)
    if options.dry_run:
        _print_plan(plan, out)
        return
    with counted_progress("trials", "job", shown=not options.quiet) as advance:
        chosen = run_sweep(plan, out, resume=options.resume, track=track, advance=advance)
    _print_choice(plan, chosen, out)


def _print_plan(plan: Sweep, out: Path) -> None:
    trials, seeds = planned_trials(plan), len(plan.seeds)
    say(
        f"{trials} trials x {seeds} seeds on {100 * plan.validation:g}% of each client's training "
        f"images, chosen by {plan.metric}; then the chosen one x {seeds} seeds on test images: "
        f"{(trials + 1) * seeds} runs in {out}"
    )
    first = next_trials(plan, [], {})
    for trial in first:
        say(f"  {trial.label}")
    if len(first) < trials:
        console.print(f"  and {trials - len(first)} more, drawn from what these find")
    if isinstance(plan.executor, SlurmOptions):
        from eval.sweep.cluster import require_submitit, script

        require_submitit()
        sys.stdout.write(script(plan.executor, out, len(first) * seeds))


def _print_choice(plan: Sweep, chosen: Chosen, out: Path) -> None:
    table = Table(title="Trials, on validation images", title_justify="left")
    for heading in ("trial", f"{plan.metric} %"):
        table.add_column(heading, justify="left" if heading == "trial" else "right")
    labels = {cell.method.split(":")[0]: cell.method for cell in chosen.results.comparison.cells}
    for number, label in labels.items():
        mark = " (chosen)" if int(number) == chosen.trial.number else ""
        table.add_row(label + mark, percent(chosen.scores.get(int(number))))
    console.print(table)
    for job, why in chosen.failed.items():
        say(f"failed: {job}: {why}")
    tested = chosen.results.of(TEST, chosen.trial.label)
    means = [run.last.summary.mean for run in tested.values()]
    worst = [run.last.summary.worst_decile for run in tested.values()]
    say(
        f"chosen: {chosen.trial.label}. On test images, trained on all training images, "
        f"{len(means)} seed(s): mean {percent(sum(means) / len(means))} %, worst decile "
        f"{percent(sum(worst) / len(worst))} %"
    )
    say(
        f"its options: {out / CHOSEN}; tables: {chosen.tables}; `pfedmoap report {out}` makes a "
        "page of all"
    )
