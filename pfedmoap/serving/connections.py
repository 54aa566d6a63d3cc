"""Connections of the HTTP server, with the bounds that uvicorn leaves to a proxy.

uvicorn bounds the idle time of a connection that has had an answer, and nothing before that: a
head that never ends holds its connection for ever. What a connection waits for is bounded here.
"""

import asyncio
import json
import logging
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from pfedmoap.serving.gate import Gate
from pfedmoap.serving.refusals import RETRY_SECONDS

logger = logging.getLogger(__name__)

PIECE_BYTES = 2**12  # of heads and of chunks, read at once
WASTE = 4  # bytes of a chunked body as sent, for one without its frames


class GuardedProtocol(H11Protocol):
    """One connection: its head must come in time, and its request must end in time.

    Args:
        gate: The place of all connections.
        options: uvicorn's.

    Attributes:
        since: When it began to wait for the present request, by the loop's clock.
    """

    def __init__(self, gate: Gate, **options: Any) -> None:  # uvicorn's, passed on
        super().__init__(**options)
        self.since = self.loop.time()
        self._gate, self._asked = gate, False
        self._timer: asyncio.TimerHandle | None = None
        self._chunked = False
        self._chunk_bytes = self._body_bytes = 0  # of a chunked body: as sent, and without frames

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn
        """Take the connection in, or refuse it at once."""
        super().connection_made(transport)
        if self._gate.enter(self, self.loop.time()):
            self._wait()
        else:
            transport.write(_FULL)
            transport.close()
            self._arm(self._gate.limits.silence_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        """Free its place."""
        self._gate.leave(self)
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on; what comes while a whole request is being answered is dropped.

        A client may send its next request before it has the answer. Reading would have to pause
        then, and with it the notice that the client has left. Heads and chunks are read in small
        pieces, since each line of them costs far more time than it costs to send.
        """
        start = 0
        while start < len(data) and not self.transport.is_closing():
            if self._answering:
                self.cycle.keep_alive = False
                return
            in_body = self.conn.their_state is h11.SEND_BODY
            if in_body and self._chunked and self.cycle.response_complete:
                self.transport.close()  # refused, and of unknown length: no more is looked at
                return
            end = len(data) if in_body and not self._chunked else start + PIECE_BYTES
            self._read(data[start:end], in_body and self._chunked)
            start = end

    def _read(self, piece: bytes, chunks: bool) -> None:
        cycle, before = self.cycle, len(self.cycle.body) if chunks else 0
        super().data_received(piece)
        self._note_request()
        if not chunks or self.cycle is not cycle or not cycle.more_body:
            return
        self._chunk_bytes += len(piece)
        self._body_bytes += len(cycle.body) - before
        if self._chunk_bytes > PIECE_BYTES and WASTE * self._body_bytes < self._chunk_bytes:
            self.send_400_response("The chunks of the body are too small.")

    def handle_events(self) -> None:
        """Go through what has arrived, whatever it is."""
        try:
            super().handle_events()
        except Exception as error:  # h11 raises also what Python raises on very long numbers
            logger.debug("a request could not be read: %r", error)
            self.send_400_response("Invalid HTTP request received.")

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self._wait()
        super().on_response_complete()
        self._note_request()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no request; where an answer has begun, only close."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE) and not self.transport.is_closing():
            self.transport.write(_raw(400, "Bad Request", msg))
        self.transport.close()

    def may_go(self, now: float) -> bool:
        """Whether it is still sending its request, and a body for longer than it may."""
        if not self._asked:
            return True
        grace = self._gate.limits.grace_seconds
        return not self._answering and now - self.since >= grace

    def drop(self) -> None:
        """End it at once."""
        self._gate.leave(self)
        self.transport.abort()

    @property
    def _answering(self) -> bool:
        """Whether a request is here as a whole, and its answer is not."""
        cycle = self.cycle
        return cycle is not None and not cycle.response_complete and not cycle.more_body

    def _wait(self) -> None:
        """Begin to wait for the head of a request."""
        self._asked, self.since = False, self.loop.time()
        self._arm(self._gate.limits.header_seconds)

    def _note_request(self) -> None:
        """Where a head has arrived: from now on, time runs for the request as a whole."""
        running = self.cycle is not None and not self.cycle.response_complete
        if running and not self._asked:
            self._asked, self.since = True, self.loop.time()
            self._chunked = any(name == b"transfer-encoding" for name, _ in self.headers)
            self._chunk_bytes = self._body_bytes = 0
            limits = self._gate.limits
            self._arm(limits.request_seconds + limits.silence_seconds)

    def _arm(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(seconds, self._late)

    def _late(self) -> None:
        """End the connection; an answer that is still being read gets as long as a body."""
        limits = self._gate.limits
        reading = not self._asked and self.transport.get_write_buffer_size() > 0
        if reading and self.loop.time() - self.since < limits.body_seconds:
            self._arm(limits.header_seconds)
        else:
            self.drop()


def _raw(status: int, phrase: str, message: str, *more: str) -> bytes:
    """An answer outside of any request."""
    content = json.dumps({"error": message}).encode()
    lines = (
        f"HTTP/1.1 {status} {phrase}",
        "content-type: application/json",
        f"content-length: {len(content)}",
        "connection: close",
        *more,
    )
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


_FULL = _raw(503, "Service Unavailable", "too many connections", f"retry-after: {RETRY_SECONDS}")
