"""``configs``: list the configurations of the package, print one, or write it out."""

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from eval.commands.errors import readable_errors
from eval.configurations import Shipped, shipped
from eval.console import console
from pfedmoap.config.exact_options import command_parser, parse
from pfedmoap.config.suggestions import none_such
from pfedmoap.errors import ConfigError


@readable_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """List, print or copy configurations; see ``--help``."""
    parser = command_parser(
        "List the configurations that come with the package, each with the command that takes it. "
        "A command finds them by name where there is no such file: `pfedmoap compare "
        "compare-smoke.yaml`, `pfedmoap train --config demo.yaml`."
    )
    parser.add_argument("name", nargs="?", help="print this one, e.g. demo.yaml")
    parser.add_argument(
        "--copy", type=bool, default=False, help="write it into this folder, to be changed"
    )
    options = parse(parser, arguments)
    if options.name is None:
        if options.copy:
            raise ConfigError("--copy needs a name: `pfedmoap configs demo.yaml --copy`")
        _list()
        return
    one = _named(options.name)
    if options.copy:
        _copy(one)
    else:
        sys.stdout.write(one.path.read_text())


def _list() -> None:
    table = Table(box=None, padding=(0, 1))
    for heading in ("name", "command", "what it is for"):
        table.add_column(heading, no_wrap=heading != "what it is for")
    for one in shipped().values():
        table.add_row(one.name, one.command, one.about)
    console.print(table)


def _named(name: str) -> Shipped:
    known = shipped()
    one = known.get(name) or known.get(f"{name}.yaml")
    if one is None:
        raise ConfigError(none_such("configuration", name, known))
    return one


def _copy(one: Shipped) -> None:
    to = Path(one.path.name)
    try:
        with to.open("x") as file:
            file.write(one.path.read_text())
    except FileExistsError as error:
        raise ConfigError(f"{to} is there already: remove it, or copy in another folder") from error
    console.print(f"{to}: take it with `{one.usage}`")
