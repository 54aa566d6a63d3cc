"""``make-keys``: make a test authority, the server's certificate and the sites' keys."""

from collections.abc import Sequence
from pathlib import Path

from eval.commands.errors import readable_errors
from eval.console import say
from eval.deployment.certificates import make_keys
from eval.deployment.federation_file import names_in
from pfedmoap.config.exact_options import command_parser, parse


@readable_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Make what is missing; see ``--help``."""
    parser = command_parser(
        "Make an authority, the server's TLS certificate, the key that signs its orders, and a key "
        "for each site. What is there stays: run it again to add a site."
    )
    parser.add_argument("--out", required=True, help="folder of the federation")
    parser.add_argument(
        "--hosts",
        default="localhost,127.0.0.1",
        help="names and numbers under which sites reach the server, with commas",
    )
    parser.add_argument(
        "--sites", required=True, help="names of the sites, with commas, or a file with one a line"
    )
    options = parse(parser, arguments)
    folder = Path(options.out)
    make_keys(folder, options.hosts.split(","), names_in(options.sites))
    say(
        f"each site gets {folder / 'ca.pem'}, {folder / 'server.pub'} and its own key of "
        f"{folder / 'private'}"
    )
