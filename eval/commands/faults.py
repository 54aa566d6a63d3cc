"""``faults``: put random faults on a tiny run, and tabulate how they end."""

import sys
from collections.abc import Sequence
from pathlib import Path

from eval.commands.errors import readable_errors
from eval.console import say
from eval.faults import ENDS, KINDS, Table, inject
from eval.marked import around, fill
from eval.progress import progress_bar
from pfedmoap.config.exact_options import command_parser, parse
from pfedmoap.errors import ConfigError

PLACE = "faults"


@readable_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Try faults; see ``--help``."""
    parser = command_parser(
        "Put random faults (kills, flipped bits, truncated and swapped files, a full disk) on a "
        "tiny run, and continue it: it must end as without the fault, or with one clear error."
    )
    parser.add_argument("--count", type=int, default=500, help="how many faults")
    parser.add_argument("--seed", type=int, default=0, help="draws them")
    parser.add_argument("--page", type=str | None, help="write the table into this page")
    options = parse(parser, arguments)
    if options.count < 1:
        raise ConfigError(f"--count must be at least 1, got {options.count}")
    page = None if options.page is None else Path(options.page)
    if page is not None:
        around(page, PLACE)  # refuses a page without a place
    with progress_bar("faults", shown=True) as advance:
        table = inject(options.count, options.seed, lambda done: advance(done, options.count))
    text = markdown(table, options.count, options.seed)
    say(text)
    if page is not None:
        fill(page, PLACE, text)
    if table.failures:
        sys.exit(1)


def markdown(table: Table, count: int, seed: int) -> str:
    """The table as Markdown, and what failed."""
    lines = [
        f"{count} faults, seed {seed}:",
        "",
        "| fault | " + " | ".join(ENDS) + " |",
        "|---|" + "---:|" * len(ENDS),
    ]
    for kind in KINDS:
        figures = [str(table.counts.get((kind, end), 0)) for end in ENDS]
        lines.append(f"| {kind} | " + " | ".join(figures) + " |")
    lines += [""] + [f"- {failure}" for failure in table.failures]
    return "\n".join(lines).rstrip() + "\n"
