"""A server in a thread of its own, and raw requests to it."""

import http.client
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

SOON = 20.0
"""Seconds until a test gives up what should happen at once; never what it waits for."""


class Served(Protocol):
    port: int

    def serve_forever(self) -> None: ...

    def shutdown(self) -> None: ...


@contextmanager
def running(server: Served) -> Iterator[None]:
    """Serve while the block runs; the thread has ended behind it."""
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join(SOON)
        assert not thread.is_alive()


def request(
    port: int, method: str, path: str, content: bytes = b"", **headers: str
) -> tuple[int, bytes, dict[str, str]]:
    """Status, content and headers of one answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SOON)
    try:
        connection.request(method, path, content, headers)
        response = connection.getresponse()
        return response.status, response.read(), {k.lower(): v for k, v in response.getheaders()}
    finally:
        connection.close()


@contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    """A bare connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=SOON) as connection:
        yield connection


def until_closed(connection: socket.socket) -> bytes:
    """What comes until the other side closes, however it does."""
    received = b""
    try:
        while part := connection.recv(2**16):
            received += part
    except ConnectionError:
        pass
    return received
