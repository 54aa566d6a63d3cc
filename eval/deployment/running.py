"""Server and site as one process each, with Flower's processes as their children."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from eval.api.callbacks import Callbacks
from eval.deployment.app import write_app
from eval.deployment.apps import host_in
from eval.deployment.serving import Served, serve_rounds
from pfedmoap.engine.flower.client_app import make_client_app
from pfedmoap.engine.flower.control import Control
from pfedmoap.engine.flower.fleet import Fleet
from pfedmoap.engine.flower.links import (
    set_offline,
    superlink,
    supernode,
    wait_until,
)
from pfedmoap.engine.flower.places import Address, Certificates
from pfedmoap.engine.flower.workers import run_server, serve_tasks
from pfedmoap.engine.simulation import FederationState, Progress
from pfedmoap.errors import RunError

logger = logging.getLogger(__name__)
_START_SECONDS = 120.0
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 2.0, 60.0


@dataclass(frozen=True)
class Listening:
    """How a server is reached.

    Attributes:
        address: Where its SuperLink listens.
        certificates: For TLS; ``None`` for none.
        sites: Folder of the sites' public keys; ``None`` lets everybody in.
    """

    address: Address
    certificates: Certificates | None
    sites: Path | None


def run_deployed(
    served: Served,
    listening: Listening,
    announce: Callable[[str], None],
    progress: Progress = lambda *_: None,
    callbacks: Callbacks | None = None,
) -> FederationState[Any]:
    """Serve a federation to its last round.

    Args:
        served: The server.
        listening: How it is reached.
        announce: Called with a line once sites can join.
        progress: Called after each round.
        callbacks: Told of the run while it is going on.

    Returns:
        The federation after its last round.
    """
    told = Callbacks([]) if callbacks is None else callbacks
    home = served.folder / "flower"
    set_offline(home)
    own = replace(listening.address, host=_here(listening.address.host))
    control = Control(own, listening.sites)
    found: list[FederationState[Any]] = []
    keyed = listening.sites is not None
    with superlink(listening.address, home, listening.certificates, keys=keyed) as (secret, check):
        wait_until(control.ready, check, _START_SECONDS)
        control.let_in()
        control.start(write_app(home / "app", served.folder))
        announce(listening.address.text)

        def names() -> dict[bytes, str]:
            check()
            control.let_in()
            return control.keys

        def serve(grid: Any) -> None:  # Flower's own type
            fleet = Fleet(grid, served.file.timeout_seconds, names=names if keyed else None)
            found.append(serve_rounds(served, fleet, progress, told.begin, told.round))

        run_server(own, secret, serve, check)
    told.end()
    return found[0]


def join(
    folder: Path,
    server: Address,
    key: Path | None,
    announce: Callable[[], None],
    stop: threading.Event,
) -> None:
    """Take part with a site's folder until told to stop.

    Where the server is away, or does not know the site's key yet, it is tried again.

    Args:
        folder: The site's folder.
        server: Where the SuperLink is.
        key: The site's private key; ``None`` where the server needs none.
        announce: Called whenever the node was started.
        stop: Ends this.
    """
    home = folder / "flower"
    set_offline(home)
    host = host_in(folder)
    app = make_client_app(lambda _: host)
    node = {"folder": str(folder.resolve())}
    pause = _FIRST_PAUSE_SECONDS
    while not stop.is_set():
        try:
            with supernode(server, home, key, node) as (tasks, secret, check):
                announce()
                serve_tasks(tasks, secret, app, stop, check)
        except RunError as error:
            logger.warning("%s; trying again in %g seconds", error, pause)
            stop.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def _here(host: str) -> str:
    """Where a server that listens on all interfaces is for itself."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
