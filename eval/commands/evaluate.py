"""``evaluate``: test every client of a finished run again."""

from collections.abc import Sequence
from pathlib import Path

from eval.accuracy import domain_means, summarise
from eval.client_csv import BEGINNING, write_client_csv
from eval.commands.errors import readable_errors
from eval.console import client_table, console, figures_table, summary_table
from eval.experiment import ExperimentLoader
from eval.generalisation import base_to_new, has_new_classes
from eval.holdout import validation_note
from eval.running import load_outcome
from pfedmoap.config.exact_options import command_parser, parse
from pfedmoap.runs.directory import RunDirectory
from pfedmoap.storage.own_files import refuse_foreign_file


@readable_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Evaluate a run; see ``--help``."""
    parser = command_parser("Test every client of a run, as after its last round.")
    parser.add_argument("run", type=str, help="run directory")
    parser.add_argument("--csv", type=str | None, help="also write the table to this file")
    parser.add_argument("--data.root", type=str | None, help="where the data are, if they moved")
    options = parse(parser, arguments)
    if options.csv:
        refuse_foreign_file(Path(options.csv), BEGINNING, "a table of clients")
    run = RunDirectory(options.run)
    experiment, now = load_outcome(run, ExperimentLoader(), options["data.root"])
    scores = experiment.test(now)
    title = f"{experiment.config.name('method')} on {experiment.federation.dataset.name}"
    console.print(client_table(scores, f"{title}, after round {now.round}"))
    console.print(summary_table(summarise(scores), title))
    if (note := validation_note(experiment.config.sections)) is not None:
        console.print(note)
    if means := domain_means(scores):
        console.print(figures_table(means, "personalised accuracy by domain"))
    if has_new_classes(experiment.config):
        found = base_to_new(experiment, now)
        figures = {
            "own base classes": found.own,
            "all base classes": found.base,
            "new classes": found.new,
            "harmonic mean of base and new": found.harmonic,
        }
        console.print(figures_table(figures, "from base to new classes, mean over clients"))
    if options.csv:
        write_client_csv(Path(options.csv), scores, private=run.divided)
