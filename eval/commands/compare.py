"""``compare``: several methods x seeds x tasks in one process, resumable, with tables."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from eval.commands.errors import readable_errors
from eval.comparison.cells import Advance, run_comparison
from eval.comparison.spec import Cell, read_comparison
from eval.comparison.tables import terminal_tables, write_tables
from eval.configurations import located
from eval.console import console
from eval.progress import Lines, is_live, terminal_progress
from eval.tracking.choose import HELP, Tracks
from pfedmoap.config.exact_options import command_parser, parse


@readable_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Compare methods; see ``--help``."""
    parser = command_parser(
        "Run methods x tasks x seeds from one YAML file and tabulate the last round."
    )
    parser.add_argument("comparison", type=str, help="YAML file: base, tasks, methods, seeds")
    parser.add_argument("--out", type=str, default="runs/compare", help="folder of the comparison")
    parser.add_argument(
        "--resume", type=bool, default=False, help="continue the comparison that is in the folder"
    )
    parser.add_argument("--quiet", type=bool, default=False, help="show no progress")
    parser.add_argument("--track", type=str, default="", help=HELP)
    options = parse(parser, arguments)
    plan = read_comparison(located(options.comparison))
    out = Path(options.out)
    track = Tracks.of(options.track).kinds
    places = [out]
    with progress_bars(len(plan.cells), shown=not options.quiet) as advance:
        results = run_comparison(
            plan,
            out,
            resume=options.resume,
            advance=advance,
            track=track,
            finished=lambda so_far: places.append(write_tables(so_far, out)),
        )
    for table in terminal_tables(results):
        console.print(table)
    console.print(
        f"tables and curves: {places[-1]}; `report {out}` makes a page of them and the runs"
    )


@contextmanager
def progress_bars(cells: int, *, shown: bool = True) -> Iterator[Advance]:
    """Show two bars on standard error: over cells and over the rounds of the running one.

    In a pipe or a file each round is a line.
    """
    if shown and not is_live():
        yield _lines(cells)
        return
    with terminal_progress(shown=shown) as progress:
        over = progress.add_task("cells", total=cells)
        inside = progress.add_task("", total=None)

        def advance(cell: Cell, done: int, round: int, last: int) -> None:
            label = f"{cell.task} | {cell.method} | seed {cell.seed}"
            progress.update(over, completed=done)
            progress.update(inside, description=label, completed=round, total=last or None)

        yield advance


def _lines(cells: int) -> Advance:
    """Make what writes a line for each round of each cell."""
    running: dict[str, Lines] = {}

    def advance(cell: Cell, done: int, round: int, last: int) -> None:
        label = f"{cell.task} | {cell.method} | seed {cell.seed} ({done + 1} of {cells})"
        if label not in running:
            running.clear()
            running[label] = Lines(label, "round")
        running[label].count(round, last)

    return advance
