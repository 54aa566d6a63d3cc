"""``repair``: save what can be saved of a damaged run."""

from collections.abc import Sequence
from pathlib import Path

from eval.commands.errors import readable_errors
from eval.console import say
from pfedmoap.config.exact_options import command_parser, parse
from pfedmoap.runs.repair import repair


@readable_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Repair a run; see ``--help``."""
    parser = command_parser(
        "Save what can be saved of a damaged run: drop log lines that are no longer what was "
        "written, and go back to the last round whose state is whole. Damaged files are moved "
        "into its folder `damaged`; nothing is deleted, and no state is guessed."
    )
    parser.add_argument("run", type=str, help="run directory")
    options = parse(parser, arguments)
    done = repair(Path(options.run))
    if not done.found:
        say(f"{options.run} is whole, after round {done.round}; nothing was changed")
        return
    for line in (
        *(f"found: {each}" for each in done.found),
        *(f"lost lines of metrics: {each}" for each in done.lost_lines),
        *(f"kept for you: {file}" for file in done.aside),
    ):
        say(line)
    say(
        f"{options.run} is whole after round {done.round}; continue it with the command that "
        "started it and --resume"
    )
