"""``join``: take part in a federation with one site's own data."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from eval.commands.errors import readable_errors
from eval.console import say
from eval.deployment.site_options import SiteOptions
from pfedmoap.config.exact_options import command_parser, parse
from pfedmoap.engine.flower.places import Address, require_extra
from pfedmoap.errors import ConfigError


@readable_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Take part until interrupted; see ``--help``."""
    parser = command_parser(
        "Take part in a federation with this site's own data. Nothing of them leaves but updates "
        "of the model; what the site keeps is in its own folder."
    )
    parser.add_argument("--server", required=True, help="HOST:PORT of the server")
    parser.add_argument("--name", help="name of this site, as the server knows it")
    parser.add_argument("--data", help="folder of images, as FOLDER/class/*, or a CSV file")
    parser.add_argument("--folder", help="the site's own folder; sites/NAME if left out")
    parser.add_argument("--credentials", help="folder with ca.pem, server.pub and NAME.key")
    parser.add_argument("--max_epsilon", type=float, help="most epsilon that may ever be spent")
    parser.add_argument("--groups", type=bool, help="class folders hold a folder for each person")
    parser.add_argument("--device", help="auto, cpu, cuda or cuda:N")
    parser.add_argument(
        "--backbone", help="the only frozen model to load, e.g. local-dir:/models/x"
    )
    parser.add_argument("--methods", help="files of further methods that may run here, with commas")
    parser.add_argument("--insecure", type=bool, default=False, help="no TLS: on one machine alone")
    parser.add_argument(
        "--prepare", type=bool, default=False, help="only write the site's options, and stop"
    )
    given = parse(parser, arguments)
    folder = Path(given.folder or f"sites/{given.name}").expanduser()
    options = _options(folder, given)
    keys = None if given.credentials is None else Path(given.credentials).expanduser()
    if keys is not None:
        options = replace(options, server_key=_server_key(keys))
    options.write(folder)
    if given.prepare:
        say(f"{folder} is the folder of site {options.name}")
        return
    server, key = _address(given, keys, options.name)

    def announce() -> None:
        say(f"site {options.name} takes part at {server.text}; stop with Ctrl-C")

    require_extra()
    from eval.deployment.running import join

    join(folder, server, key, announce, threading.Event())


def _server_key(keys: Path) -> str:
    file = keys / "server.pub"
    if not file.exists():
        raise ConfigError(
            f"{file} is missing: with it this site knows whose orders are the server's; the "
            "server's operator has it"
        )
    return file.read_text().strip()


def _options(folder: Path, given: Any) -> SiteOptions:  # parsed options
    """The site's options: those in its folder, and what was given now in their place."""
    known = SiteOptions.read(folder)
    names = ("name", "data", "max_epsilon", "groups", "device", "backbone")
    new = {name: found for name in names if (found := getattr(given, name)) is not None}
    if given.methods is not None:
        new["methods"] = tuple(given.methods.split(","))
    if "data" in new:
        new["data"] = str(Path(new["data"]).expanduser().resolve())
    if known is not None:
        if new.get("name", known.name) != known.name:
            raise ConfigError(f"{folder} is the folder of site {known.name!r}; choose another one")
        return replace(known, **new)
    if "name" not in new or "data" not in new:
        raise ConfigError("a new site needs --name and --data")
    return SiteOptions(**new)


def _address(given: Any, keys: Path | None, name: str) -> tuple[Address, Path | None]:
    host, _, port = given.server.rpartition(":")
    if not host or not port.isdigit():
        raise ConfigError(f"--server must be HOST:PORT, got {given.server!r}")
    if given.insecure:
        if host not in ("127.0.0.1", "localhost", "::1"):
            raise ConfigError(f"--insecure is for this machine alone, not for {host}")
        return Address(host, int(port)), None
    if keys is None:
        raise ConfigError(
            "give the folder of ca.pem, server.pub and this site's key with --credentials"
        )
    key = next(
        (f for f in (keys / f"{name}.key", keys / f"private/{name}.key") if f.exists()), None
    )
    if key is None or not (keys / "ca.pem").exists():
        raise ConfigError(f"{keys} lacks ca.pem or {name}.key; the server's operator has them")
    return Address(host, int(port), (keys / "ca.pem").resolve()), key.resolve()
