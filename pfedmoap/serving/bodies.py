"""Receive the body of a request: bounds on its size, its time, and the memory of all bodies."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pfedmoap.serving.limits import ServingLimits
from pfedmoap.serving.refusals import Departed, Refusal

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
"""ASGI's: gives the next part of a body, or says that the asker has left."""

LENGTH_DIGITS = 20  # of a declared size; Python refuses to read very long numbers


@dataclass
class _Held:
    """A body that is arriving, or has arrived and is being answered."""

    since: float
    scope: asyncio.Timeout
    size_bytes: int = 0
    whole: bool = False


class Bodies:
    """Receives bodies; all of them together stay within a bound on memory.

    Bytes count when they arrive, not when they are announced, so that a slow sender holds what it
    has sent and no more. All methods run on the event loop, which is why there is no lock.

    Args:
        limits: Bounds.
    """

    def __init__(self, limits: ServingLimits) -> None:
        self._limits = limits
        self._held: dict[int, _Held] = {}

    @contextmanager
    def place(self, scope: asyncio.Timeout) -> Iterator["_Held"]:
        """Count a body until the block is left, when nothing of it is needed any more.

        Args:
            scope: Ends the reception when it is moved to now.
        """
        held = _Held(asyncio.get_running_loop().time(), scope)
        self._held[id(held)] = held
        try:
            yield held
        finally:
            del self._held[id(held)]

    async def receive(self, receive: Receive, headers: Mapping[str, str], held: "_Held") -> bytes:
        """Receive one body within its place.

        Args:
            receive: Gives its parts.
            headers: Of the request.
            held: Its place.

        Returns:
            The body.

        Raises:
            Refusal: It is compressed, too large, or too slow, or there is no memory for it.
            Departed: The asker has left.
        """
        if headers.get("content-encoding", "identity").strip().lower() != "identity":
            raise Refusal(415, "send the body as it is, without Content-Encoding")
        self._check_size(headers.get("content-length", "0"))
        parts: list[bytes] = []
        while True:
            try:
                async with asyncio.timeout(self._limits.silence_seconds):
                    message = await receive()
            except TimeoutError as error:
                raise Refusal(408, "the request did not arrive in time") from error
            if message["type"] != "http.request":
                raise Departed
            part = message.get("body", b"")
            self._take(held, len(part))
            parts.append(part)
            if not message.get("more_body", False):
                held.whole = True
                return b"".join(parts)

    def _check_size(self, declared: str) -> None:
        length = declared.strip()
        if not (length.isascii() and length.isdigit()):
            raise Refusal(400, "Content-Length is no number")
        if len(length) > LENGTH_DIGITS or int(length) > self._limits.body_bytes:
            raise self._too_large()

    def _too_large(self) -> Refusal:
        return Refusal(413, f"a request has at most {self._limits.body_bytes} bytes")

    def _take(self, held: "_Held", size_bytes: int) -> None:
        """Count arrived bytes; where memory is short, give up the body that is slowest."""
        if held.size_bytes + size_bytes > self._limits.body_bytes:
            raise self._too_large()
        now = asyncio.get_running_loop().time()
        while self._total() + size_bytes > self._limits.memory_bytes:
            old = [
                other
                for other in self._held.values()
                if other is not held
                and other.size_bytes
                and not other.whole
                and now - other.since >= self._limits.grace_seconds
            ]
            if not old:
                raise Refusal(503, "too many large requests at once")
            slowest = min(old, key=lambda other: other.since)
            slowest.size_bytes = 0
            slowest.scope.reschedule(now)
        held.size_bytes += size_bytes

    def _total(self) -> int:
        return sum(held.size_bytes for held in self._held.values())
