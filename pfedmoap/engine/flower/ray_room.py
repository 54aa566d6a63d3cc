"""Ray for one simulation: started on this machine and ended again, or a cluster that is joined."""

import os
import secrets
import shutil
import signal
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import ray
from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]  # compiled

from pfedmoap.engine.flower.links import OFFLINE
from pfedmoap.engine.flower.room import Room
from pfedmoap.errors import RunError

LONGEST_PLACE = 40  # characters: Ray adds about 60, and a socket's path has at most 107


@contextmanager
def running_ray(room: Room) -> Iterator[None]:
    """Run Ray, or join one; offline, without a dashboard, and for nobody else.

    Args:
        room: What it is to have, or where it is.

    Raises:
        RunError: It does not start.
    """
    base = tempfile.gettempdir()
    if len(base) > LONGEST_PLACE:
        base = "/tmp"  # a test's or a job's own folder is too long for Ray's sockets
    place = Path(tempfile.mkdtemp(prefix="pfedmoap-", dir=base))
    environment = {
        **OFFLINE,
        "FLWR_HOME": str(place / "flower"),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        "PYTHONPATH": os.pathsep.join(name for name in sys.path if name),
    }
    if room.address is None:  # its ports are open to this machine's network: a token is needed
        environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with _set(environment):
            _read_variables()
            try:
                with warnings.catch_warnings():
                    # Of a variable that later versions of Ray will read otherwise.
                    warnings.filterwarnings("ignore", "Tip: In future versions", FutureWarning)
                    ray.init(**room.of_ray(place))
            except (ConnectionError, OSError, RuntimeError, ValueError) as error:
                raise RunError(f"Ray does not start: {error}") from error
            finally:
                if main:  # Ray's own would end this process at once
                    signal.signal(signal.SIGTERM, handler)
            yield
    finally:
        ray.shutdown()
        _read_variables()
        shutil.rmtree(place, ignore_errors=True)


def _read_variables() -> None:
    """Have Ray read its variables again: it reads them once, when it is imported."""
    AuthenticationTokenLoader.instance().reset_cache()
    Config.initialize("")


@contextmanager
def _set(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for a while, which processes that are started inherit."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
