"""TLS handshakes within the bounds of all connections, and the event loop that sees to it.

asyncio tells nobody of a connection before its handshake is done. Here each is accepted as it is,
takes a place at the gate, and becomes a TLS connection then; a silent one is dropped for another.
"""

import asyncio
import logging
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any, cast

from pfedmoap.serving.gate import Gate

logger = logging.getLogger(__name__)

ACCEPTED_AT_ONCE = 16  # so that slow connections can make room before more are accepted


class Handshake(asyncio.Protocol):
    """A connection until its handshake is done.

    Args:
        loop: The event loop.
        gate: The place of all connections.
        context: TLS, with the certificate.
        factory: Makes the protocol within.

    Attributes:
        since: When it was accepted.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        gate: Gate,
        context: ssl.SSLContext,
        factory: Callable[[], asyncio.Protocol],
    ) -> None:
        self.since = loop.time()
        self._loop, self._gate, self._context, self._factory = loop, gate, context, factory
        self._transport: asyncio.WriteTransport | None = None
        self._upgrading: asyncio.Task[None] | None = None  # kept, or it could vanish

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake."""
        self._transport = cast(asyncio.Transport, transport)  # of a TCP socket
        if self._gate.enter(self, self._loop.time()):
            self._upgrading = self._loop.create_task(self._upgrade(self._transport))
        else:
            self._transport.abort()

    def may_go(self, now: float) -> bool:
        """Whether it may be dropped: it has asked for nothing yet."""
        del now
        return True

    def drop(self) -> None:
        """End it at once."""
        self._gate.leave(self)
        if self._transport is not None:
            self._transport.abort()

    async def _upgrade(self, transport: asyncio.Transport) -> None:
        early, seconds = _Early(), self._gate.limits.handshake_seconds
        try:
            secured = await self._loop.start_tls(
                transport,
                early,
                self._context,
                server_side=True,
                ssl_handshake_timeout=seconds,
                ssl_shutdown_timeout=seconds,
            )
        except OSError as error:  # no TLS, no agreement, or nothing in time
            logger.debug("a TLS handshake failed: %r", error)
            return
        finally:
            self._gate.leave(self)
        if secured is None or early.lost:
            return
        inner = self._factory()
        secured.set_protocol(inner)
        inner.connection_made(secured)
        for data in early.parts:
            inner.data_received(data)


class _Early(asyncio.Protocol):
    """Keeps what comes with the end of a handshake, before anybody can be told of it."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.lost = False

    def data_received(self, data: bytes) -> None:
        self.parts.append(data)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.lost = True


class GuardedLoop(asyncio.SelectorEventLoop):
    """An event loop whose servers take few connections at once and TLS through the gate.

    Args:
        gate: The place of all connections.
    """

    def __init__(self, gate: Gate) -> None:
        super().__init__()
        self._gate = gate

    async def create_server(self, *args: Any, **options: Any) -> asyncio.Server:  # asyncio's own
        """Make a server; see `asyncio.loop.create_server`."""
        factory, *others = args
        waiting, context = options.pop("backlog", 100), options.pop("ssl", None)
        if context is not None:
            factory = partial(Handshake, self, self._gate, context, factory)
        server = await super().create_server(factory, *others, backlog=ACCEPTED_AT_ONCE, **options)
        if options.get("sock") is not None:
            options["sock"].listen(waiting)  # asyncio takes one number for both
        return server
