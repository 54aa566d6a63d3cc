"""``status``: say how far a federation is, who takes part, and what was sent and spent."""

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from eval.commands.errors import readable_errors
from eval.comparison.tables import in_bytes
from eval.console import console, say
from eval.deployment.federation_file import RUN, FederationFile
from eval.deployment.status import SiteStatus, status_of
from eval.escaping import for_terminal
from pfedmoap.config.exact_options import command_parser, parse


@readable_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Read a federation's folder and print it; see ``--help``."""
    parser = command_parser(
        "Say how far a federation is, who takes part, and what was sent and spent. It reads the "
        "server's folder, also while the server runs."
    )
    parser.add_argument("folder", help="folder of the federation, or its run")
    folder = Path(parse(parser, arguments).folder)
    folder = folder.parent if folder.name == RUN else folder
    file = FederationFile.read(folder)
    status = status_of(folder)
    console.print(
        f"round {status.round} of {file.sections['rounds']['rounds']}; federation {file.federation}"
    )
    headings = ("site", "client", "joined", "rounds", "last", "down", "up", "epsilon")
    table = Table(*headings, padding=0)  # fits 80 columns with names of 25 letters
    for site in status.sites:
        table.add_row(*_row(site))
    console.print(table)
    for site in status.sites:  # in lines of their own: for a column more there is no room
        if site.news:
            # Why a site sat out is its own text: it may not begin another site's line.
            said = for_terminal(site.news[:80], lines=False)
            say(f"{site.name}: {said}")


def _row(site: SiteStatus) -> list[str]:
    last = "-" if site.last_round is None else str(site.last_round)
    epsilon = "-" if site.epsilon is None else f"{site.epsilon:.3f}"
    return [
        site.name,
        str(site.client),
        str(site.joined),
        str(site.rounds),
        last,
        in_bytes(site.down_bytes),
        in_bytes(site.up_bytes),
        epsilon,
    ]
