"""``predict``: classify image files with one client's personal model."""

import logging
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from eval.commands.errors import readable_errors
from eval.console import console
from eval.data_of_run import known_data, report_quick_changes
from pfedmoap.config.exact_options import command_parser, parse
from pfedmoap.data.images import printable
from pfedmoap.data.known_data import trained_copy
from pfedmoap.inference import Answer, PersonalizedClassifier
from pfedmoap.runs.directory import RunDirectory

logger = logging.getLogger(__name__)


@readable_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Classify images; see ``--help``."""
    parser = command_parser("Classify image files with one client's personal model.")
    parser.add_argument("run", type=str, help="run directory")
    parser.add_argument("images", type=str, nargs="+", help="image files")
    parser.add_argument("--client", type=int, required=True, help="whose model")
    options = parse(parser, arguments)
    classifier = PersonalizedClassifier.load(options.run, options.client)
    _report_data(RunDirectory(options.run), options.images)
    table = Table(title=f"client {options.client}", title_justify="left")
    for heading in ("image", "class", "probability", "runner-up", "gate: whose prompts"):
        table.add_column(heading)
    for path, answer in zip(options.images, classifier.classify(options.images), strict=True):
        (best, probability), *others = answer.ranking
        table.add_row(
            printable(path),
            best,
            f"{probability:.3f}",
            ", ".join(f"{name} ({p:.3f})" for name, p in others[:1]),
            _experts(answer),
        )
    console.print(table)


def _report_data(run: RunDirectory, images: Sequence[str]) -> None:
    """Warn of changes in the run's data, and of images that are not new to it."""
    known = known_data(run)
    if known is None:
        return
    report_quick_changes(run, known)
    for image in images:
        if (name := trained_copy(known, Path(image))) is not None:
            logger.warning(
                "%s was trained on, as %s: its answer says nothing of how the model does on new "
                "images",
                printable(image),
                printable(name),
            )


def _experts(answer: Answer) -> str:
    if answer.attention is None:
        return "no gate"
    return ", ".join(f"{who} {weight:.2f}" for who, weight in answer.attention[:4])
