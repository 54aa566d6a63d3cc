"""A black-box model behind HTTP: timeouts, retries with backoff, and a count of all queries."""

import http.client
import json
import logging
import time
from collections.abc import Callable
from urllib.parse import SplitResult, urlsplit

from pfedmoap.errors import BlackBoxError, ConfigError
from pfedmoap.models.blackbox import wire
from pfedmoap.models.blackbox.interface import Answer, Question, Usage
from pfedmoap.serving.place import is_loopback

logger = logging.getLogger(__name__)

RETRIED_STATUS = (429, 500, 502, 503, 504)
DAY = 86_400  # seconds; sockets refuse very long timeouts


class HTTPModel:
    """Queries an `Endpoint`, or any server with its protocol.

    A request without an answer, or with a status code of a temporary failure, is repeated; a
    refusal (400, 413, ...) is final. Every attempt that reached a server counts, since the
    server may have processed it.

    Args:
        url: ``http://host:port`` or ``https://...``, perhaps with a path in front of ``/v1``.
        token: Sent with each request where the server asks for one.
        timeout_seconds: Timeout of each attempt.
        retries: Attempts after the first.
        pause_seconds: Before the first retry; doubles with each.
        sleep: Waits for so many seconds; replaceable in tests.

    Raises:
        ConfigError: The address or the timeout is invalid.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        timeout_seconds: float = 30.0,
        retries: int = 3,
        pause_seconds: float = 0.5,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        check_patience(timeout_seconds)
        parts = split_address(url)
        self._url, self._path = url, parts.path.rstrip("/") + wire.PATH
        self._host, self._port = parts.hostname or "", parts.port
        self._secure = parts.scheme == "https"
        self._headers = {"Content-Type": wire.CONTENT_TYPE}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
            if not (self._secure or is_loopback(self._host)):
                logger.warning("%s: the token and the images go there unencrypted", url)
        self._timeout, self._retries, self._pause = timeout_seconds, retries, pause_seconds
        self._sleep = sleep

    def ask(self, question: Question) -> Answer:
        """Classify; see `BlackBoxModel.ask`.

        Raises:
            BlackBoxError: The endpoint refused, could not be reached, or its answer is invalid.
        """
        content = wire.encode_question(question)
        if len(content) > wire.LARGEST_BYTES:
            raise BlackBoxError(
                f"the question has {len(content)} bytes, at most {wire.LARGEST_BYTES}: ask about "
                "fewer images in a call"
            )
        images, classes = len(question.images), len(question.text.class_names)
        sent = 0
        for attempt in range(self._retries + 1):
            if attempt:
                self._sleep(self._pause * 2 ** (attempt - 1))
            try:
                connection = self._connect()
                sent += 1
                status, reply = self._exchange(connection, content)
            except (OSError, http.client.HTTPException) as error:
                trouble = f"{type(error).__name__}: {error}"
            else:
                if status == 200:
                    logits = wire.decode_logits(reply, (images, classes))
                    usage = Usage(images * sent, sent, len(content) * sent, len(reply))
                    return Answer(logits, usage)
                trouble = f"HTTP {status}: {_reason(reply)}"
                if status not in RETRIED_STATUS:
                    raise BlackBoxError(f"{self._url} refuses the question: {trouble}")
            logger.warning("%s, attempt %d: %s", self._url, attempt + 1, trouble)
        raise BlackBoxError(
            f"{self._url} gave no answer in {self._retries + 1} attempts; the last one failed "
            f"with {trouble}. Is the server running (pfedmoap serve-clip)?"
        )

    def _connect(self) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=self._timeout)
        connection.connect()
        return connection

    def _exchange(
        self, connection: http.client.HTTPConnection, content: bytes
    ) -> tuple[int, bytes]:
        try:
            connection.request("POST", self._path, body=content, headers=self._headers)
            response = connection.getresponse()
            reply = response.read(wire.LARGEST_BYTES + 1)
        finally:
            connection.close()
        if len(reply) > wire.LARGEST_BYTES:
            raise BlackBoxError(f"{self._url} answers with more than {wire.LARGEST_BYTES} bytes")
        return response.status, reply


def split_address(url: str) -> SplitResult:
    """Parse the address of an endpoint, without connecting to it.

    Raises:
        ConfigError: It is none.
    """
    wrong = ConfigError(f"the endpoint is {url!r}, expected e.g. http://127.0.0.1:8080")
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises as well, where it is no number or too large a one
    except ValueError as error:
        raise wrong from error
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
        raise wrong
    return parts


def check_patience(seconds: float) -> None:
    """Raise an error for a timeout that no socket accepts.

    Raises:
        ConfigError: It is not above zero, or longer than a day.
    """
    if not 0 < seconds <= DAY:
        raise ConfigError(
            f"timeout_seconds is {seconds}, expected seconds above 0 and at most {DAY}"
        )


def _reason(reply: bytes) -> str:
    """Return the server's message about a failure."""
    try:
        return str(json.loads(reply)["error"])
    except (ValueError, KeyError, TypeError):
        return repr(reply[:200])
