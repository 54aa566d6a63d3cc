"""The apps that Flower loads where its own commands are used: `flwr run` and its processes."""

from pathlib import Path
from typing import Any

from eval.deployment.host import SiteHost
from eval.deployment.serving import prepare, serve_rounds
from eval.deployment.site_options import SiteOptions
from pfedmoap.engine.flower.client_app import make_client_app
from pfedmoap.engine.flower.server_app import make_server_app
from pfedmoap.errors import RunError

_hosts: dict[Path, SiteHost] = {}


def host_in(folder: Path) -> SiteHost:
    """The host of a site's folder; one for each folder and process, so that it loads once.

    Raises:
        RunError: The folder is no site's.
    """
    if folder not in _hosts:
        options = SiteOptions.read(folder)
        if options is None:
            raise RunError(f"{folder} is no site's folder: make one with pfedmoap join --prepare")
        _hosts[folder] = SiteHost(folder, options)
    return _hosts[folder]


def _host_of(config: dict[str, Any]) -> SiteHost:
    return host_in(Path(str(config.get("folder", ""))).expanduser())


client_app = make_client_app(_host_of)
server_app = make_server_app(
    lambda fleet, config: serve_rounds(prepare(Path(str(config["folder"])).expanduser()), fleet)
)
