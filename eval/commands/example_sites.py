"""``example-sites``: write folders of images to try a federation with: some of the digits."""

from collections.abc import Sequence
from pathlib import Path

from eval.commands.errors import readable_errors
from eval.console import console
from eval.deployment.example_data import write_digits
from pfedmoap.config.exact_options import command_parser, parse


@readable_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Write them; see ``--help``."""
    parser = command_parser(
        "Write folders of digits, others for each site, to try a federation with."
    )
    parser.add_argument("--out", required=True, help="folder to write to")
    parser.add_argument("--sites", required=True, help="names of the sites, with commas")
    options = parse(parser, arguments)
    listed = write_digits(Path(options.out), options.sites.split(","))
    console.print(f"classes: {listed}", soft_wrap=True)
