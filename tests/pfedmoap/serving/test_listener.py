"""The server against slow, large, wrong and absent askers; each test's server ends with it."""

import hashlib
import http.client
import json
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pfedmoap.errors import ConfigError, DataError
from pfedmoap.serving.gate import most_connections
from pfedmoap.serving.limits import ServingLimits
from pfedmoap.serving.listener import Listener, require_extra
from pfedmoap.serving.place import Place
from pfedmoap.serving.service import Operation, Proceed, Reply, Service
from tests.helpers.places import ROOT
from tests.helpers.serving import SOON, connected, request, running, until_closed

TOKEN = "a-token-of-more-than-16-letters"
QUICK = ServingLimits(header_seconds=0.3, silence_seconds=0.3, body_seconds=0.6)
HEAD = b"POST /ask HTTP/1.1\r\nHost: x\r\n"


def digest(content: bytes, proceed: Proceed) -> Reply:
    proceed()
    if content == b"wrong":
        raise DataError("that is wrong")
    if content == b"crash":
        raise RuntimeError("a secret of the server")
    return Reply(hashlib.sha256(content).hexdigest().encode(), "text/plain")


def service(answer: Callable[[bytes, Proceed], Reply] = digest) -> Service:
    return Service("tests", "Digests.", (Operation("/ask", answer, DataError, "Ask."),))


@contextmanager
def serving(
    limits: ServingLimits = QUICK,
    place: Place | None = None,
    answer: Callable[[bytes, Proceed], Reply] = digest,
) -> Iterator[Listener]:
    with Listener(service(answer), place, limits) as listener, running(listener):
        yield listener


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with serving(replace(QUICK, body_bytes=1000)) as listener:
        yield listener.port


def answered(port: int) -> None:
    status, content, _ = request(port, "POST", "/ask", b"honest")
    assert (status, content) == (200, hashlib.sha256(b"honest").hexdigest().encode())


def error_of(content: bytes) -> str:
    return str(json.loads(content)["error"])


def test_an_honest_asker_is_answered_beside_sixty_slow_ones(port):
    """They hold connections with half a head, a head alone, and a body that never ends."""
    with ExitStack() as stack:
        for number in range(60):
            slow = stack.enter_context(connected(port))
            slow.sendall((b"POST /a", HEAD, HEAD + b"Content-Length: 900\r\n\r\na")[number % 3])
        answered(port)
        assert request(port, "GET", "/healthz")[0] == 200


def test_an_honest_asker_takes_the_place_of_a_slow_one():
    """More slow connections than there are places at all, and none is ever cut off for time."""
    patient = ServingLimits(connections=8, grace_seconds=0)
    with serving(patient) as listener, ExitStack() as stack:
        for number in range(20):
            slow = stack.enter_context(connected(listener.port))
            slow.sendall((b"POST /a", HEAD + b"Content-Length: 900\r\n\r\na")[number % 2])
        answered(listener.port)


def test_connections_beyond_the_limit_are_told_to_come_again():
    begun, wake = threading.Event(), threading.Event()

    def busy(content: bytes, proceed: Proceed) -> Reply:
        begun.set()
        wake.wait(SOON)
        return digest(content, proceed)

    with (
        serving(ServingLimits(connections=1), answer=busy) as listener,
        connected(listener.port) as first,
    ):
        first.sendall(HEAD + b"Connection: close\r\nContent-Length: 1\r\n\r\na")
        assert begun.wait(SOON)
        with connected(listener.port) as second:
            reply = until_closed(second)
        assert reply.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nretry-after: 1\r\n" in reply
        wake.set()
        assert until_closed(first).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("sent", "repeated", "status"),
    [
        (b"", b"", b""),
        (b"POST /a", b"a", b""),
        (HEAD, b"X: y\r\n", b""),
        (HEAD + b"Content-Length: 900\r\n\r\n", b"", b"HTTP/1.1 408 "),
        (HEAD + b"Content-Length: 900\r\n\r\n", b"a", b"HTTP/1.1 408 "),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n", b"HTTP/1.1 408 "),
    ],
)
def test_slow_heads_and_bodies_are_cut_off(port, sent, repeated, status):
    """Also where something comes all the time, so that no silence is long."""
    with connected(port) as slow:
        slow.sendall(sent)
        slow.settimeout(0.05)
        reply, give_up = b"", time.monotonic() + SOON
        while True:
            assert time.monotonic() < give_up
            try:
                part = slow.recv(2**12)
            except TimeoutError:
                with suppress(ConnectionError):
                    slow.sendall(repeated)
                continue
            except ConnectionError:
                break
            if not part:
                break
            reply += part
        assert reply.startswith(status)
        assert bool(reply) == bool(status)


def test_slow_heads_are_cut_off_on_a_kept_connection_too(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SOON)
    connection.request("GET", "/healthz")
    assert connection.getresponse().read()
    connection.sock.sendall(b"GET /hea")
    assert until_closed(connection.sock) == b""
    connection.close()


def test_bodies_over_the_limit_are_refused_by_their_announcement_and_by_their_size(port):
    assert request(port, "POST", "/ask", b"a" * 1000)[0] == 200
    status, content, _ = request(port, "POST", "/ask", b"a" * 1001)
    assert status == 413
    assert error_of(content) == "a request has at most 1000 bytes"
    with connected(port) as chunked:
        chunked.sendall(
            HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1f4\r\n%b\r\n" % b"a" * 500
        )
        chunked.sendall((b"1f4\r\n" + b"a" * 500 + b"\r\n") * 3)
        assert chunked.recv(2**12).startswith(b"HTTP/1.1 4")
    answered(port)


def test_chunks_of_a_few_bytes_are_not_worth_their_time():
    """Each costs the event loop more than a hundred times what it costs to send."""
    chunked = b"Host: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    with serving(ServingLimits(header_seconds=2 * SOON)) as listener:
        with connected(listener.port) as hostile:
            with suppress(ConnectionError):
                hostile.sendall(HEAD + chunked[9:] + b"1\r\na\r\n" * 3000)
            assert b"too small" in until_closed(hostile)
        with connected(listener.port) as refused:
            refused.sendall(b"POST /nothing HTTP/1.1\r\n" + chunked)
            reply = refused.recv(2**12)
            with suppress(ConnectionError):
                refused.sendall(b"1\r\na\r\n" * 3000)
            reply += until_closed(refused)  # and not only when the time for heads is over
            assert reply.startswith(b"HTTP/1.1 404 ")
        with connected(listener.port) as honest:
            chunk = b"64\r\n" + b"a" * 100 + b"\r\n"
            honest.sendall(HEAD + chunked[9:] + chunk * 100 + b"0\r\n\r\n")
            assert honest.recv(2**12).startswith(b"HTTP/1.1 200 ")


def test_a_chunked_body_without_an_end_is_refused(port):
    with connected(port) as chunked:
        chunked.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        chunked.settimeout(SOON)
        with suppress(ConnectionError):
            for _ in range(3):
                chunked.sendall(b"1f4\r\n" + b"a" * 500 + b"\r\n")
        assert chunked.recv(2**12).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": TOKEN},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": "Bearer \xff"},
    ],
)
def test_no_token_or_a_wrong_one(headers, guarded):
    for method, path in (("POST", "/ask"), ("GET", "/openapi.json")):
        status, content, given = request(guarded, method, path, **headers)
        assert (status, given["www-authenticate"]) == (401, "Bearer")
        assert TOKEN not in error_of(content)


@pytest.fixture(scope="module")
def guarded() -> Iterator[int]:
    with serving(place=Place(token=TOKEN)) as listener:
        yield listener.port


def test_the_right_token(guarded):
    right = {"Authorization": f"Bearer {TOKEN}"}
    assert request(guarded, "POST", "/ask", **right)[0] == 200
    assert request(guarded, "GET", "/healthz")[0] == 200
    described = json.loads(request(guarded, "GET", "/openapi.json", **right)[1])
    assert set(described["paths"]) == {"/ask", "/healthz"}
    assert described["security"] == [{"token": []}]


def test_without_the_token_no_body_is_awaited(guarded):
    with connected(guarded) as stranger:
        stranger.sendall(HEAD + b"Content-Length: 900\r\n\r\n")
        assert stranger.recv(2**12).startswith(b"HTTP/1.1 401 ")


def test_errors_are_json_and_tell_nothing_of_the_server(port, caplog):
    for content, status, message in (
        (b"wrong", 400, "that is wrong"),
        (b"crash", 500, "the model failed; the server's log says why"),
    ):
        got, reply, headers = request(port, "POST", "/ask", content)
        assert (got, error_of(reply)) == (status, message)
        assert headers["content-type"] == "application/json"
        assert "server" not in headers
    assert "a secret of the server" in caplog.text
    assert error_of(request(port, "GET", "/nothing")[1]).endswith(
        "/openapi.json says what there is"
    )
    assert error_of(request(port, "DELETE", "/ask")[1]) == "this path takes POST"
    assert request(port, "GET", "/ask")[0] == 405
    assert request(port, "POST", "/ask/")[0] == 404


@pytest.mark.parametrize(
    "sent",
    [
        b"\xff\xfe\x00\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /%ff%fe?\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /ask HTTP/1.1\r\n\r\n",  # no Host
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",
        HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\na",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 5000 + b"\r\n",
        HEAD + b"Transfer-Encoding: gzip\r\n\r\n",
        HEAD + b"X: \x00\r\n\r\n",
        HEAD + b"X: " + b"a" * 2**15 + b"\r\n\r\n",
        HEAD + b"X: " + b"a" * 2**20,
        HEAD + b"X: y\r\n" * 9000 + b"\r\n",
        HEAD + b"Content-Encoding: gzip\r\nContent-Length: 1\r\n\r\na",
        HEAD + b"Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 5000\r\n\r\na",
    ],
)
def test_nonsense_is_refused_and_the_server_goes_on(port, sent, caplog):
    with connected(port) as hostile:
        with suppress(ConnectionError):
            hostile.sendall(sent)
        reply = until_closed(hostile)
    assert not reply or reply.startswith(b"HTTP/1.1 4")
    assert "Traceback" not in caplog.text
    answered(port)


def test_pipelined_requests_neither_pile_up_nor_hide_that_the_asker_left():
    begun, stopped = threading.Event(), threading.Event()

    def endless(content: bytes, proceed: Proceed) -> Reply:
        begun.set()
        try:
            while True:
                proceed()
                time.sleep(0.01)
        finally:
            stopped.set()

    one = HEAD + b"Content-Length: 1\r\n\r\na"
    with serving(ServingLimits(), answer=endless) as listener:
        with connected(listener.port) as hasty:
            hasty.sendall(one * 3)
            assert begun.wait(SOON)
            hasty.sendall(one * 10_000)
        assert stopped.wait(SOON)


def test_work_stops_when_its_asker_leaves_and_what_waits_is_never_begun():
    begun, left, slices = threading.Event(), threading.Event(), []

    def sliced(content: bytes, proceed: Proceed) -> Reply:
        for number in range(10_000):
            proceed()
            slices.append((content, number))
            begun.set()
            left.wait(SOON)
            time.sleep(0.001)
        return Reply(b"", "text/plain")

    with serving(ServingLimits(), answer=sliced) as listener:
        with connected(listener.port) as first, connected(listener.port) as second:
            first.sendall(HEAD + b"Content-Length: 1\r\n\r\n1")
            assert begun.wait(SOON)
            second.sendall(HEAD + b"Content-Length: 1\r\n\r\n2")
            assert request(listener.port, "GET", "/healthz")[0] == 200  # the loop is free
        for _ in range(3):  # by then the loop has seen them leave
            assert request(listener.port, "GET", "/healthz")[0] == 200
        left.set()
    assert len(slices) < 10_000
    assert {content for content, _ in slices} == {b"1"}


def test_questions_beyond_the_limit_are_told_to_come_again():
    begun, wake = threading.Event(), threading.Event()

    def busy(content: bytes, proceed: Proceed) -> Reply:
        begun.set()
        wake.wait(SOON)
        return digest(content, proceed)

    with serving(ServingLimits(questions=1), answer=busy) as listener:
        with connected(listener.port) as first:
            first.sendall(HEAD + b"Connection: close\r\nContent-Length: 1\r\n\r\na")
            assert begun.wait(SOON)
            status, content, headers = request(listener.port, "POST", "/ask", b"b")
            assert (status, headers["retry-after"]) == (503, "1")
            assert error_of(content) == "too many questions at once"
            wake.set()
            assert until_closed(first).startswith(b"HTTP/1.1 200 ")
        answered(listener.port)


def test_a_question_that_takes_too_long_is_given_up():
    stopped = threading.Event()

    def endless(content: bytes, proceed: Proceed) -> Reply:
        try:
            while True:
                proceed()
                time.sleep(0.01)
        finally:
            stopped.set()

    with serving(ServingLimits(request_seconds=0.2), answer=endless) as listener:
        status, content, headers = request(listener.port, "POST", "/ask", b"a")
        assert (status, headers["retry-after"]) == (503, "1")
        assert error_of(content) == "no answer within 0.2 seconds"
        assert stopped.wait(SOON)


def test_an_answer_that_is_not_read_does_not_hold_its_connection():
    large, answer = ServingLimits(header_seconds=0.2, body_seconds=0.4), b"a" * 2**25
    with (
        serving(large, answer=lambda *_: Reply(answer, "text/plain")) as listener,
        connected(listener.port) as deaf,
    ):
        deaf.sendall(HEAD + b"Content-Length: 1\r\n\r\na")
        give_up = time.monotonic() + SOON
        with suppress(ConnectionError):  # the other side has ended the connection
            while time.monotonic() < give_up:
                deaf.sendall(b"a")
                time.sleep(0.02)
        assert time.monotonic() < give_up


def test_slow_bodies_give_up_their_memory_to_others():
    limits = ServingLimits(memory_bytes=1500, body_bytes=1000, grace_seconds=0)
    with serving(limits) as listener, connected(listener.port) as slow:
        slow.sendall(HEAD + b"Content-Length: 1000\r\n\r\n" + b"a" * 999)
        assert request(listener.port, "GET", "/healthz")[0] == 200
        assert request(listener.port, "POST", "/ask", b"a" * 1000)[0] == 200
        assert slow.recv(2**12).startswith(b"HTTP/1.1 408 ")
    with serving(replace(limits, grace_seconds=60)) as listener, connected(listener.port) as slow:
        slow.sendall(HEAD + b"Content-Length: 1000\r\n\r\n" + b"a" * 999)
        assert request(listener.port, "GET", "/healthz")[0] == 200
        status, content, _ = request(listener.port, "POST", "/ask", b"a" * 1000)
        assert (status, error_of(content)) == (503, "too many large requests at once")


def certificate(folder: Path) -> tuple[Path, Path]:
    """A throw-away certificate for 127.0.0.1, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    files = folder / "certificate.pem", folder / "key.pem"
    files[0].write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8
    plain = serialization.NoEncryption()
    files[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, form, plain))
    return files


def test_tls(tmp_path):
    public, key = certificate(tmp_path)
    place = Place(certificate=public, key=key)
    limits = replace(QUICK, handshake_seconds=0.3)
    trusting = ssl.create_default_context(cafile=public)
    with serving(limits, place) as listener:
        assert listener.url == f"https://127.0.0.1:{listener.port}"
        for context in (trusting, ssl.create_default_context()):
            connection = http.client.HTTPSConnection(
                "127.0.0.1", listener.port, timeout=SOON, context=context
            )
            if context is trusting:
                connection.request("POST", "/ask", b"honest")
                assert connection.getresponse().status == 200
            else:
                with pytest.raises(ssl.SSLCertVerificationError):
                    connection.request("GET", "/healthz")
            connection.close()
        with connected(listener.port) as silent:  # never begins the handshake
            assert until_closed(silent) == b""


def test_silent_connections_before_the_handshake_make_room(tmp_path, caplog):
    """More of them than there are places, none of which is cut off for time."""
    public, key = certificate(tmp_path)
    patient = ServingLimits(connections=8, handshake_seconds=2 * SOON)
    trusting = ssl.create_default_context(cafile=public)
    with serving(patient, Place(certificate=public, key=key)) as listener, ExitStack() as stack:
        for number in range(20):
            silent = stack.enter_context(connected(listener.port))
            silent.sendall((b"", b"\x16\x03\x01\x00\xff", b"GET / HTTP/1.1\r\n\r\n")[number % 3])
        connection = http.client.HTTPSConnection(
            "127.0.0.1", listener.port, timeout=SOON, context=trusting
        )
        connection.request("POST", "/ask", b"honest" * 10_000)
        assert connection.getresponse().status == 200
        connection.close()
    assert not caplog.records


def test_fewer_connections_where_fewer_files_may_be_open(monkeypatch):
    monkeypatch.setattr("resource.getrlimit", lambda _: (72, 4096))
    assert most_connections() == 8
    with serving(ServingLimits(grace_seconds=0)) as listener, ExitStack() as stack:
        slow = [stack.enter_context(connected(listener.port)) for _ in range(20)]
        answered(listener.port)
        assert sum(until_closed(each) == b"" for each in slow[:12]) == 12


def test_certificates_that_cannot_be_used(tmp_path):
    public, key = certificate(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    _, foreign = certificate(other)
    locked = tmp_path / "locked.pem"
    secret = serialization.load_pem_private_key(key.read_bytes(), None)
    locked.write_bytes(
        secret.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"password"),
        )
    )
    for pair in ((tmp_path / "absent.pem", None), (public, foreign), (public, locked)):
        with pytest.raises(ConfigError, match="cannot be used"):
            Listener(service(), Place(certificate=pair[0], key=pair[1]))
    with pytest.raises(ConfigError, match="needs its certificate"):
        Listener(service(), Place(key=key))


def test_places_that_cannot_be_had():
    with pytest.raises(ConfigError, match=r"cannot listen at 127.0.0.1:99999: .*0-65535"):
        Listener(service(), Place(port=99_999))
    with pytest.raises(ConfigError, match="cannot listen"):
        Listener(service(), Place(host="no such host"))
    with Listener(service()) as first, pytest.raises(ConfigError, match="already in use"):
        Listener(service(), Place(port=first.port))


def test_without_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(ConfigError, match=r"pip install 'pfedmoap\[serve\]'"):
        require_extra()


SCRIPT = """
import time
from pfedmoap.errors import DataError
from pfedmoap.serving.listener import Listener
from pfedmoap.serving.service import Operation, Reply, Service

def slow(content, proceed):
    if content == b"endless":
        while True:
            proceed()
            time.sleep(0.01)
    time.sleep(0.3)
    return Reply(b"done", "text/plain")

with Listener(Service("t", "t", (Operation("/ask", slow, DataError, "Ask."),))) as listener:
    print(listener.port, flush=True)
    listener.serve_forever()
print("ended", flush=True)
"""


@pytest.mark.parametrize(("name", "content"), [("SIGTERM", b"short"), ("SIGINT", b"endless")])
def test_a_signal_ends_the_process_after_the_answer_at_work(name, content):
    """A second signal ends it without one."""
    number = getattr(signal, name)
    begin = (
        f"import signal; signal.signal(signal.{name}, signal.SIG_DFL)\n"  # callers may ignore it
    )
    command = [sys.executable, "-c", begin + SCRIPT]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            with connected(port) as asking:
                length = f"Content-Length: {len(content)}\r\n\r\n".encode()
                asking.sendall(HEAD + length + content)
                assert request(port, "GET", "/healthz")[0] == 200
                process.send_signal(number)
                if content == b"endless":
                    time.sleep(0.3)
                    process.send_signal(number)
                reply = until_closed(asking)
            assert process.wait(SOON) == 0
            assert process.stdout.read() == "ended\n"
        finally:
            process.kill()
    assert reply.endswith(b"done") == (content == b"short")
