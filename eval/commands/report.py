"""``report``: one HTML page about runs or comparisons, without any network."""

from collections.abc import Sequence
from pathlib import Path

from eval.commands.errors import readable_errors
from eval.console import say
from eval.experiment import ExperimentLoader
from eval.report.build import build_report, private_folder
from eval.report.page import BEGINNING
from pfedmoap.config.exact_options import command_parser, parse
from pfedmoap.runs.layout import make_private_folder
from pfedmoap.storage.atomic_files import write_bytes
from pfedmoap.storage.own_files import refuse_foreign_file


@readable_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Write a report; see ``--help``."""
    parser = command_parser("Write one self-contained HTML page about runs.")
    parser.add_argument("runs", type=str, nargs="+", help="run directories or comparison folders")
    parser.add_argument(
        "--out",
        type=str | None,
        help="the page; RUN/report.html if left out, in a private run RUN/private/report.html",
    )
    parser.add_argument("--title", type=str | None, help="title of the page")
    parser.add_argument("--data.root", type=str | None, help="where the data are, if they moved")
    options = parse(parser, arguments)
    folders = [Path(run) for run in options.runs]
    owner = private_folder(folders)
    out = Path(options.out) if options.out else _place(folders[0], owner)
    refuse_foreign_file(out, BEGINNING, "a report")
    page = build_report(folders, ExperimentLoader(), options.title, options["data.root"]).encode()
    write_bytes(out, page, private=owner is not None)
    private = "" if owner is None else " (private: its figures are not covered by any guarantee)"
    say(f"report: {out}{private}")


def _place(first: Path, owner: Path | None) -> Path:
    """Return the default file: beside the first run, or in the private part of a private run."""
    return (first if owner is None else make_private_folder(owner)) / "report.html"
