"""Listen at an address and serve until told to end; needs the extra ``serve``."""

import asyncio
import contextlib
import importlib
import os
import signal
import socket
import threading
from collections.abc import Iterator
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any

from pfedmoap.errors import ConfigError
from pfedmoap.serving.limits import ServingLimits
from pfedmoap.serving.place import Place, tls_context
from pfedmoap.serving.service import Service

if TYPE_CHECKING:
    import uvicorn

INSTALL = "pip install 'pfedmoap[serve]'"
BACKLOG = 512  # connections that the system accepts before the server does


class Listener:
    """Serves one service at one place.

    Args:
        service: What is served.
        place: Where, and to whom.
        limits: Bounds.

    Raises:
        ConfigError: The extra is not installed, there is no such interface or port, it is in use,
            or the certificate cannot be read.
    """

    def __init__(
        self, service: Service, place: Place | None = None, limits: ServingLimits | None = None
    ) -> None:
        require_extra()
        self._service, self._place = service, place or Place()
        self._limits = limits or ServingLimits()
        self._tls = tls_context(self._place)
        self._server: uvicorn.Server | None = None
        self._ended = threading.Event()
        self._socket = _bound(self._place)

    @property
    def port(self) -> int:
        """The port, also where 0 was asked for."""
        return int(self._socket.getsockname()[1])

    @property
    def url(self) -> str:
        """The address for clients."""
        host = self._place.host
        shown = f"[{host}]" if ":" in host else host
        return f"http{'' if self._tls is None else 's'}://{shown}:{self.port}"

    def __enter__(self) -> "Listener":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()

    def serve_forever(self) -> None:
        """Serve until `shutdown`, or in the main thread until SIGINT, SIGTERM or SIGHUP.

        Requests at work are then given ``ending_seconds``; a second signal waits for nothing.
        """
        import uvicorn

        from pfedmoap.serving.application import make_application
        from pfedmoap.serving.connections import GuardedProtocol
        from pfedmoap.serving.gate import Gate
        from pfedmoap.serving.handshakes import GuardedLoop
        from pfedmoap.serving.workplace import Workplace

        limits, workplace = self._limits, Workplace(self._limits.questions)
        gate = Gate(limits)
        protocol: Any = partial(GuardedProtocol, gate)  # uvicorn calls what it declares
        config = uvicorn.Config(
            make_application(self._service, limits, workplace, self._place.token),
            http=protocol,
            ws="none",
            lifespan="off",
            log_config=None,  # our own logging stays as it is
            log_level="error",
            access_log=False,
            workers=1,
            proxy_headers=False,
            server_header=False,
            backlog=BACKLOG,
            h11_max_incomplete_event_size=limits.header_bytes,
            timeout_graceful_shutdown=limits.ending_seconds,
        )
        config.load()
        config.ssl = self._tls
        self._server = uvicorn.Server(config)
        # uvicorn raises the signals again that have ended it; here they have done all they should
        self._server.capture_signals = partial(ending, self._server)  # type: ignore[method-assign]
        if self._ended.is_set():
            self._server.should_exit = True
        try:
            with asyncio.Runner(loop_factory=partial(GuardedLoop, gate)) as runner:
                runner.run(self._server.serve(sockets=[self._socket]))
        finally:
            workplace.close()

    def shutdown(self) -> None:
        """End `serve_forever`, from any thread; returns at once."""
        self._ended.set()
        if self._server is not None:
            self._server.should_exit = True


@contextlib.contextmanager
def ending(server: "uvicorn.Server") -> Iterator[None]:
    """Let signals end a server while the block runs; those that the caller ignores stay ignored."""
    before: dict[int, Any] = {}  # handlers of any kind

    def end(number: int, frame: object) -> None:
        del number, frame
        server.force_exit = server.should_exit
        server.should_exit = True

    if threading.current_thread() is threading.main_thread():
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _bound(place: Place) -> socket.socket:
    family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # elsewhere the option would let two servers have one port
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((place.host, place.port))
        bound.listen(BACKLOG)
    except (OSError, OverflowError, UnicodeError) as error:
        bound.close()
        raise ConfigError(f"cannot listen at {place.host}:{place.port}: {error}") from error
    return bound


def require_extra() -> None:
    """Check that the libraries are installed.

    Raises:
        ConfigError: They are not; the message says how to get them.
    """
    try:
        for name in ("starlette", "uvicorn"):
            importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(f"serving needs starlette and uvicorn: {INSTALL} ({error})") from error
