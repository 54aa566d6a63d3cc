"""``predict``: classify image files with one client's personal model."""

import logging
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from rich.table import Table

from eval.commands.errors import readable_errors
from eval.console import console
from eval.data_of_run import known_data, report_quick_changes
from eval.escaping import for_terminal
from eval.image_answers import FileAnswer, answers, as_csv, as_json, named_files
from eval.progress import progress_bar
from pfedmoap.config.exact_options import command_parser, parse
from pfedmoap.data.images import printable
from pfedmoap.data.known_data import trained_copy
from pfedmoap.errors import ConfigError, DataError
from pfedmoap.inference import IMAGES_AT_ONCE, Answer, PersonalizedClassifier
from pfedmoap.runs.directory import RunDirectory

logger = logging.getLogger(__name__)


@readable_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Classify images; see ``--help``."""
    parser = command_parser(
        "Classify image files with one client's personal model. Files that cannot be read are "
        "named, the others are answered, and the exit code is then 1."
    )
    parser.add_argument(
        "model", type=str, help="run directory, folder of `export`, or hf-hub:user/repo"
    )
    parser.add_argument(
        "images", type=str, nargs="+", help="image files, folders of them, or - for names on stdin"
    )
    parser.add_argument("--client", type=int | None, help="whose model, of a run")
    parser.add_argument("--json", type=bool, default=False, help="print a JSON array")
    parser.add_argument("--csv", type=bool, default=False, help="print CSV")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument(
        "--batch_size", type=int, default=IMAGES_AT_ONCE, help="images that are encoded at a time"
    )
    options = parse(parser, arguments)
    if options.json and options.csv:
        raise ConfigError("--json and --csv are two forms of one output: choose one")
    if options.batch_size < 1:
        raise ConfigError(f"--batch_size must be at least 1, got {options.batch_size}")
    classifier = PersonalizedClassifier.load(options.model, options.client, options.device)
    files = named_files(options.images, sys.stdin)
    if options.client is not None:
        _report_data(RunDirectory(options.model), files)
    shown = len(files) > options.batch_size and sys.stderr.isatty()
    unreadable: list[str] = []  # one reason a file
    with progress_bar("images", "image", shown=shown) as moved:

        def watched() -> Iterator[FileAnswer]:
            for one in answers(classifier, files, options.batch_size, moved):
                if one.problem is not None:
                    unreadable.append(one.problem)
                yield one

        if options.json:
            _write(as_json(watched()))
        elif options.csv:
            _write(as_csv(watched(), classifier.class_names))
        else:
            who = options.model if options.client is None else f"client {options.client}"
            _print_table(list(watched()), who)
    for problem in unreadable[:-1]:
        logger.warning("%s", problem)
    if unreadable:
        count = "" if len(files) == 1 else f"; in all {len(unreadable)} of {len(files)} images"
        raise DataError(f"{unreadable[-1]}{count}")


def _write(parts: Iterable[str]) -> None:
    """Write to standard output as it is; on a terminal so that no name acts there."""
    shown = sys.stdout.isatty()
    sys.stdout.writelines(for_terminal(part) if shown else part for part in parts)


def _print_table(found: Sequence[FileAnswer], title: str) -> None:
    answered = [(one.file, one.answer) for one in found if one.answer is not None]
    if not answered:
        return
    table = Table(title=title, title_justify="left")
    for heading in ("image", "class", "probability", "runner-up", "gate: whose prompts"):
        table.add_column(heading)
    for file, answer in answered:
        (best, probability), *others = answer.ranking
        table.add_row(
            printable(file),
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
