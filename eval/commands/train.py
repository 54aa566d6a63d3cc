"""``train``: run one experiment and keep it in a run directory."""

from collections.abc import Sequence
from pathlib import Path

from eval.accuracy import summarise
from eval.choices import training_schema
from eval.commands.errors import readable_errors
from eval.console import client_table, console, say, summary_table
from eval.experiment import ExperimentLoader
from eval.holdout import validation_note
from eval.promise import promised, spent, spent_epsilon
from eval.refused import NothingTrainedError
from eval.running import train_into
from eval.tracking.choose import HELP as TRACK_HELP
from eval.tracking.choose import Tracks
from pfedmoap.runs.directory import RunDirectory
from pfedmoap.runs.log import Record


@readable_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Train personalised clients; see ``--help``."""
    config, options = training_schema().parse(
        arguments,
        "Train a federation of personalised clients and test every client.",
        {
            "out": ("runs/train", "folder of the run: checkpoints, metrics, per-client table"),
            "resume": (False, "continue the run that is in the folder already"),
            "quiet": (False, "show no progress bars"),
            "track": ("", TRACK_HELP),
        },
    )
    out = Path(options["out"])
    tracks = Tracks.of(options["track"])
    statement: Record = {}

    def announce(promise: Record) -> None:
        statement.update(promise)
        say(promised(promise, out / "privacy.json"))

    loader = ExperimentLoader(progress=not options["quiet"])
    with tracks.told(out, loader) as told:

        def begin(promise: Record) -> None:
            announce(promise)
            told.begin(promise)

        try:
            experiment, outcome = train_into(
                out, config, loader, resume=options["resume"], announce=begin, listen=told.round
            )
        except NothingTrainedError:
            say(spent(statement, spent_epsilon(RunDirectory(out))))
            raise
        told.end()
    title = f"{config.name('method')} on {experiment.federation.dataset.name}"
    console.print(client_table(outcome.scores, f"{title}, after round {outcome.final.round}"))
    console.print(summary_table(summarise(outcome.scores), title))
    say(validation_note(config.sections))
    run = RunDirectory(out)
    say(spent(statement, spent_epsilon(run)))
    console.print(f"run directory: {out}")
    if run.divided:
        say(
            f"results and clients' models: {run.layout.private_part} (no noise covers them: share "
            "the run without this folder)"
        )
