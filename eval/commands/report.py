"""``report``: one HTML page about runs or comparisons, without any network."""

from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser

from eval.commands.errors import readable_errors
from eval.console import console
from eval.experiment import Workbench
from eval.report.build import build_report
from eval.report.page import BEGINNING
from pfedmoap.own_files import refuse_foreign_file
from pfedmoap.storage import write_bytes


@readable_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Write a report; see ``--help``."""
    parser = ArgumentParser(description="Write one self-contained HTML page about runs.")
    parser.add_argument("runs", type=str, nargs="+", help="run directories or comparison folders")
    parser.add_argument("--out", type=str | None, help="the page; RUN/report.html if left out")
    parser.add_argument("--title", type=str | None, help="title of the page")
    options = parser.parse_args(arguments)
    folders = [Path(run) for run in options.runs]
    out = Path(options.out) if options.out else folders[0] / "report.html"
    refuse_foreign_file(out, BEGINNING, "a report")
    write_bytes(out, build_report(folders, Workbench(), options.title).encode())
    console.print(f"report: {out}")
