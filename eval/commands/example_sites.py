"""``example-sites``: write folders of images to try a federation with: digits, or a tree's."""

from collections.abc import Sequence
from pathlib import Path

from eval.commands.errors import readable_errors
from eval.console import say
from eval.deployment.example_data import share_out, write_digits
from pfedmoap.config.exact_options import command_parser, parse
from pfedmoap.errors import ConfigError


@readable_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Write them; see ``--help``."""
    parser = command_parser(
        "Write a folder of images for each site, to try a federation with: some digits, or the "
        "images of a tree, each of which goes to one site. Beside them are classes.txt for "
        "`pfedmoap serve --classes` and sites.txt for `pfedmoap make-keys --sites`."
    )
    parser.add_argument("--out", required=True, help="folder to write to")
    parser.add_argument("--sites", help="names of the sites, with commas; domains name their own")
    parser.add_argument("--data", help="tree of images, as FOLDER/domain/class/* or FOLDER/class/*")
    parser.add_argument("--per_domain", type=int, default=3, help="how many sites a domain has")
    options = parse(parser, arguments)
    sites = options.sites.split(",") if options.sites else []
    if options.data is not None:
        if options.per_domain < 1:
            raise ConfigError(f"--per_domain must be at least 1, got {options.per_domain}")
        data = Path(options.data).expanduser()
        listed = share_out(data, Path(options.out), sites, options.per_domain)
    elif sites:
        listed = write_digits(Path(options.out), sites)
    else:
        raise ConfigError("name the sites with --sites a,b,c, or give a tree of images with --data")
    say(f"classes: {listed}")
    say(f"sites: {listed.with_name('sites.txt')}")
