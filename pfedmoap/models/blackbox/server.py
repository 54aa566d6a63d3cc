"""A small HTTP server for a black-box model; standard library only, loopback by default.

``POST /v1/logits`` takes a question and gives logits, both as safetensors; see `wire`. Errors come
as JSON ``{"error": ...}``. There is no authentication and no encryption: to serve other machines,
put a proxy in front that has both.
"""

import json
import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import monotonic
from typing import Any

from pfedmoap.errors import BlackBoxError, ConfigError
from pfedmoap.models.blackbox import wire
from pfedmoap.models.blackbox.interface import BlackBoxModel, Question, Usage

logger = logging.getLogger(__name__)

MOST_DIGITS = 20  # of a size; Python refuses to read very long numbers
PART_BYTES = 2**16  # read at once


@dataclass(frozen=True)
class Limits:
    """Limits of one request; a larger one is refused before it is processed.

    Attributes:
        body_bytes: Size of the request.
        images: Images in it.
        classes: Class names in it.
        templates: Templates in it.
        characters: Length of one text.
        seconds: Timeout for each read from a client.
        body_seconds: Timeout for all of a request's body.
        requests: Requests held in memory at once; further ones wait.
    """

    body_bytes: int = wire.LARGEST_BYTES
    images: int = 256
    classes: int = 1024
    templates: int = 128
    characters: int = 300
    seconds: float = 30.0
    body_seconds: float = 60.0
    requests: int = 4

    def check(self, question: Question) -> None:
        """Refuse a question that is too large.

        Raises:
            BlackBoxError: It is; the message says in what.
        """
        text = question.text
        sizes = {
            "images": len(question.images),
            "classes": len(text.class_names),
            "templates": len(text.templates),
            "characters": max(map(len, text.class_names + text.templates)),
        }
        for name, size in sizes.items():
            if size > getattr(self, name):
                raise BlackBoxError(f"{size} {name} asked for, at most {getattr(self, name)}")


class Endpoint(ThreadingHTTPServer):
    """Serves one model to one connection at a time, so that memory is bounded.

    Args:
        model: What answers.
        host: Interface; loopback by default.
        port: 0 takes any free one; see ``server_port``.
        limits: What one request may ask for.

    Raises:
        ConfigError: There is no such interface or port, or it is in use.
    """

    daemon_threads = True

    def __init__(
        self,
        model: BlackBoxModel,
        host: str = "127.0.0.1",
        port: int = 0,
        limits: Limits | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.places = threading.BoundedSemaphore(self.limits.requests)
        self._model, self._turn, self._served = model, threading.Lock(), Usage()
        try:
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError) as error:
            raise ConfigError(f"cannot listen at {host}:{port}: {error}") from error

    @property
    def url(self) -> str:
        """Address for `HTTPModel`."""
        return f"http://{self.server_address[0]!s}:{self.server_port}"

    @property
    def served(self) -> Usage:
        """The cost of all answers so far."""
        with self._turn:
            return self._served

    def answer(self, content: bytes) -> bytes:
        """Answer one request's body.

        Raises:
            BlackBoxError: It is not a question, or too large a one.
        """
        question = wire.decode_question(content)
        self.limits.check(question)
        with self._turn:
            reply = wire.encode_logits(self._model.ask(question).logits)
            self._served += Usage(len(question.images), 1, len(content), len(reply))
        return reply


class _Handler(BaseHTTPRequestHandler):
    server: Endpoint

    def setup(self) -> None:
        super().setup()
        self.connection.settimeout(self.server.limits.seconds)

    def do_POST(self) -> None:
        if self.path != wire.PATH:
            return self._fail(404, f"there is only {wire.PATH}")
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            return self._fail(411, "say Content-Length")
        limit = self.server.limits.body_bytes
        if len(length) > MOST_DIGITS or int(length) > limit:
            self._fail(413, f"a request has at most {limit} bytes")
            return self._discard(limit)
        try:
            with self.server.places:
                reply = self.server.answer(b"".join(self._body(int(length))))
        except BlackBoxError as error:
            return self._fail(400, str(error))
        except TimeoutError:
            return self._fail(408, "the request did not arrive in time")
        except Exception:
            logger.exception("a question could not be answered")
            return self._fail(500, "the model failed; the server's log says why")
        return self._send(200, wire.CONTENT_TYPE, reply)

    def do_GET(self) -> None:
        self._fail(405, f"POST to {wire.PATH}")

    def _fail(self, status: int, message: str) -> None:
        self.close_connection = True  # what is left of the body is not read
        self._send(status, "application/json", json.dumps({"error": message}).encode())

    def _discard(self, left: int) -> None:
        """Read the rest for a while: closing at once could reset the connection too early."""
        for _ in self._body(left):
            pass

    def _body(self, left: int) -> Iterator[bytes]:
        """Read a request's body in parts, with one timeout for all of it.

        The socket's own timeout restarts with every byte. A slow client would occupy one of the
        places for requests in memory, whose number is limited.
        """
        deadline = monotonic() + self.server.limits.body_seconds
        while left > 0 and (part := self.rfile.read1(min(left, PART_BYTES))):
            if monotonic() > deadline:
                raise TimeoutError
            left -= len(part)
            yield part

    def _send(self, status: int, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # Any: the base class's signature
        logger.debug("%s " + format, self.client_address[0], *args)
