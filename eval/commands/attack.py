"""``attack``: let hostile clients into a federation, and tabulate what each defence saves."""

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from eval.attacks.rows import SCHEMA, AttackTable, tabulate
from eval.attacks.running import run_plan
from eval.attacks.spec import read_plan, usual_share
from eval.attacks.tables import lost_by_defence, markdown
from eval.commands.errors import readable_errors
from eval.configurations import located
from eval.console import console, say
from eval.experiment import ExperimentLoader
from eval.marked import around, fill
from eval.progress import terminal_progress
from eval.report.attack_part import attack_page
from eval.report.page import BEGINNING
from pfedmoap.config.exact_options import command_parser, parse
from pfedmoap.storage.atomic_files import make_folder, write_bytes, write_json
from pfedmoap.storage.own_files import refuse_foreign_file, refuse_link
from pfedmoap.storage.strict_json import has_schema

RECORD, PAGE, PLACE = "attacks.json", "attacks.html", "attacks"


@readable_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Attack; see ``--help``."""
    parser = command_parser(
        "Run federations in which some clients are hostile (methods x defences x attacks x shares "
        "of attackers x seeds from one YAML file), and tabulate what it costs the honest ones."
    )
    parser.add_argument("plan", type=str, help="YAML file, e.g. attack.yaml")
    parser.add_argument("--out", type=str, default="runs/attack", help="where the results go")
    parser.add_argument(
        "--resume", type=bool, default=False, help="take the finished cases of the folder"
    )
    parser.add_argument("--page", type=str | None, help="write the tables into this Markdown page")
    parser.add_argument("--quiet", type=bool, default=False, help="show no progress")
    options = parse(parser, arguments)
    plan, out = read_plan(located(options.plan)), Path(options.out)
    page = None if options.page is None else Path(options.page)
    if page is not None:
        around(page, PLACE)  # refuses a page without a place
    refuse_link(out)
    make_folder(out)
    refuse_foreign_file(out / RECORD, lambda file: has_schema(file, SCHEMA), "a table of attacks")
    refuse_foreign_file(out / PAGE, BEGINNING, "the page of a table of attacks")
    with terminal_progress(shown=not options.quiet) as progress:
        bar = progress.add_task("", total=len(plan))
        outcomes = run_plan(
            plan,
            out,
            ExperimentLoader(progress=False),
            resume=options.resume,
            advance=lambda case, done: progress.update(
                bar, completed=done, description=f"{case.method}, {case.attack}, {case.defence}"
            ),
        )
    table = tabulate(plan, outcomes)
    write_json(out / RECORD, table.to_json())
    write_bytes(out / PAGE, attack_page(table).encode())
    if page is not None:
        fill(page, PLACE, markdown(table))
    _show(table)
    say(f"figures: {out / RECORD}, page: {out / PAGE}")


def _show(table: AttackTable) -> None:
    share = usual_share(table.shares)
    for method in table.methods:
        headings, rows = lost_by_defence(table, method, share)
        title = f"{method}, {share:.0%} attackers: points of honest accuracy lost"
        shown = Table(title=title, title_justify="left")
        for number, heading in enumerate(headings):
            shown.add_column(heading, justify="right" if number else "left")
        for row in rows:
            shown.add_row(*row)
        console.print_whole(shown)
