"""Flower's ``ServerApp`` around a loop over a fleet."""

from collections.abc import Callable, Mapping
from typing import Any

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from pfedmoap.engine.flower.fleet import Fleet

_TIMEOUT_SECONDS = 3600.0  # of a fleet whose loop sets none of its own


def make_server_app(serve: Callable[[Fleet, Mapping[str, Any]], Any]) -> ServerApp:
    """Make the app that a SuperLink runs.

    Args:
        serve: The loop, called with the fleet and the run's configuration.

    Returns:
        The app.
    """
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        serve(Fleet(grid, _TIMEOUT_SECONDS), dict(context.run_config))

    return app
