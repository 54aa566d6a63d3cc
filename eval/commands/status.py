"""``status``: say how far a federation is, who takes part, and what was sent and spent."""

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from eval.commands.errors import readable_errors
from eval.console import console
from eval.deployment.federation_file import RUN, FederationFile
from eval.deployment.status import SiteStatus, status_of
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
    table = Table(
        "site", "client", "joined", "rounds", "last", "down", "up", "epsilon", "last news"
    )
    for site in status.sites:
        table.add_row(*_row(site))
    console.print(table)


def _row(site: SiteStatus) -> list[str]:
    last = "-" if site.last_round is None else str(site.last_round)
    epsilon = "-" if site.epsilon is None else f"{site.epsilon:.3f}"
    return [
        site.name,
        str(site.client),
        str(site.joined),
        str(site.rounds),
        last,
        f"{site.down_bytes} B",
        f"{site.up_bytes} B",
        epsilon,
        site.news[:80],
    ]
