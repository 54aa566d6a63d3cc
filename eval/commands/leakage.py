"""``leakage``: infer what can be inferred about clients from their uploads."""

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from eval.commands.errors import readable_errors
from eval.configurations import located
from eval.console import console, say
from eval.experiment import ExperimentLoader
from eval.leakage.figures import HEADINGS, SCHEMA, leaks, markdown, rows, to_json
from eval.leakage.plan import read_leakage_plan
from eval.marked import around, fill
from eval.progress import terminal_progress
from pfedmoap.config.exact_options import command_parser, parse
from pfedmoap.storage.atomic_files import write_json
from pfedmoap.storage.own_files import refuse_foreign_file
from pfedmoap.storage.strict_json import has_schema

PLACE = "leakage"


@readable_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Infer; see ``--help``."""
    parser = command_parser(
        "Attack uploads as a curious server would: guess which classes each client has, and "
        "whether it trained on an image; for each setting of privacy in one YAML file."
    )
    parser.add_argument("plan", type=str, help="YAML file, e.g. leakage.yaml")
    parser.add_argument("--out", type=str, default="runs/leakage.json", help="the record")
    parser.add_argument("--page", type=str | None, help="write the table into this Markdown page")
    parser.add_argument("--quiet", type=bool, default=False, help="show no progress")
    options = parse(parser, arguments)
    plan, out = read_leakage_plan(located(options.plan)), Path(options.out)
    page = None if options.page is None else Path(options.page)
    if page is not None:
        around(page, PLACE)  # refuses a page without a place
    refuse_foreign_file(out, lambda file: has_schema(file, SCHEMA), "a record of inferences")
    with terminal_progress(shown=not options.quiet) as progress:
        bar = progress.add_task("", total=len(plan.settings) * len(plan.seeds))
        found = leaks(
            plan,
            ExperimentLoader(progress=False),
            lambda setting, done: progress.update(bar, completed=done, description=setting),
        )
    write_json(out, to_json(plan, found))
    if page is not None:
        fill(page, PLACE, markdown(found))
    table = Table(title="what uploads tell", title_justify="left")
    for number, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="right" if number else "left")
    for row in rows(found):
        table.add_row(*row)
    console.print_whole(table)
    say(f"record: {out}")
