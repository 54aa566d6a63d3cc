"""The boundary as a network: one endpoint on loopback, healthy and in trouble."""

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save

from pfedmoap.errors import BlackBoxError, ConfigError
from pfedmoap.models.blackbox import wire
from pfedmoap.models.blackbox.http_client import HTTPModel
from pfedmoap.models.blackbox.in_process import InProcessModel
from pfedmoap.models.blackbox.interface import Answer, Question, TextPrompt, Usage
from pfedmoap.models.blackbox.server import Endpoint, Limits
from pfedmoap.serving.limits import ServingLimits
from pfedmoap.serving.place import Place
from tests.helpers.places import ROOT
from tests.helpers.serving import request, running


@contextmanager
def serving(model, limits=None, serving=None, place=None) -> Iterator[Endpoint]:
    with Endpoint(model, place, limits, serving) as endpoint, running(endpoint):
        yield endpoint


class Scripted:
    """Answers zeros after running one prepared action for each request."""

    def __init__(self, *actions: Callable[[], None]) -> None:
        self.actions = list(actions)

    def ask(self, question: Question) -> Answer:
        if self.actions:
            self.actions.pop(0)()
        return Answer(torch.zeros(len(question.images), len(question.text.class_names)), Usage())


def crash() -> None:
    raise RuntimeError("out of memory")


def post(endpoint: Endpoint, content: bytes, path: str = wire.PATH, **headers: str):
    return request(endpoint.port, "POST", path, content, **headers)[:2]


def patient(endpoint: Endpoint, **options) -> tuple[HTTPModel, list[float]]:
    pauses: list[float] = []
    options = {"timeout_seconds": 10.0, "sleep": pauses.append, **options}
    return HTTPModel(endpoint.url, **options), pauses


def test_same_answers_as_in_process(clip, question, vectors):
    local = InProcessModel(clip)
    with serving(local) as endpoint:
        model, _ = patient(endpoint)
        for text in (question.text, vectors):
            asked = replace(question, text=text)
            assert torch.equal(model.ask(asked).logits, local.ask(asked).logits)


def test_both_sides_count_the_same_queries(clip, question):
    with serving(InProcessModel(clip)) as endpoint:
        model, _ = patient(endpoint)
        usage = model.ask(question).usage + model.ask(question).usage
        assert (usage.queries, usage.calls) == (10, 2)
        assert usage == endpoint.served
        assert usage.sent_bytes == 2 * len(wire.encode_question(question))


def test_failed_attempts_are_repeated_after_growing_pauses_and_billed(question):
    with serving(Scripted(crash, crash)) as endpoint:
        model, pauses = patient(endpoint, pause_seconds=0.5)
        usage = model.ask(question).usage
        assert pauses == [0.5, 1.0]
        assert (usage.queries, usage.calls) == (15, 3)
        assert endpoint.served.queries == 5


def test_attempts_that_found_nobody_are_not_billed(question):
    """The endpoint starts while the client waits for its second attempt."""
    with Endpoint(Scripted()) as reserved:
        port = reserved.port
    with ExitStack() as stack:

        def start(_: float) -> None:
            stack.enter_context(serving(Scripted(), place=Place(port=port)))

        model = HTTPModel(f"http://127.0.0.1:{port}", timeout_seconds=10, sleep=start)
        usage = model.ask(question).usage
    assert (usage.queries, usage.calls) == (5, 1)


def test_gives_up_and_says_why(question):
    with serving(Scripted(crash, crash)) as endpoint:
        model, pauses = patient(endpoint, retries=1)
        with pytest.raises(BlackBoxError, match=r"2 attempts.*HTTP 500.*server's log"):
            model.ask(question)
        assert len(pauses) == 1


def test_silence_is_cut_short(question):
    wake = threading.Event()
    with serving(Scripted(lambda: wake.wait(10) and None)) as endpoint:
        model, _ = patient(endpoint, timeout_seconds=0.2, retries=0)
        with pytest.raises(BlackBoxError, match=r"(?i)timed out"):
            model.ask(question)
        wake.set()


def test_nobody_there(question):
    with Endpoint(Scripted()) as endpoint:
        url = endpoint.url
    model = HTTPModel(url, timeout_seconds=1, retries=1, sleep=lambda _: None)
    with pytest.raises(BlackBoxError, match="Is the server running"):
        model.ask(question)


def test_refusals_are_final(question):
    with serving(Scripted(), limits=Limits(images=4)) as endpoint:
        model, pauses = patient(endpoint)
        with pytest.raises(BlackBoxError, match="5 images asked for, at most 4"):
            model.ask(question)
        assert not pauses
        assert endpoint.served == Usage()


def test_larger_requests_than_agreed_are_not_read(question):
    with serving(Scripted(), serving=ServingLimits(body_bytes=1000)) as endpoint:
        model, pauses = patient(endpoint)
        with pytest.raises(BlackBoxError, match=r"413.*at most 1000"):
            model.ask(replace(question, images=question.images[:1]))
        assert not pauses
        for length, expected in ((str(10**15), 413), ("9" * 5000, 400)):
            status, reply = post(endpoint, b"", **{"Content-Length": length})
            assert status == expected
            assert len(reply) < 100


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not safetensors"),
        (pickle.dumps({"images": 1}), "not safetensors"),
        (b"\xff" * 100, "not safetensors"),
        (save({"images": torch.zeros(1, 3, 4, 4)}), "class names"),
        (save({"labels": torch.zeros(1)}), "expected"),
        (save({"images": torch.zeros(1, 3, 4, 4).half()}), "float32"),
        (save({"images": torch.full((1, 3, 4, 4), torch.nan)}), "finite"),
        (save({"images": torch.zeros(1, 3, 4, 4)}, {"class_names": "["}), "JSON"),
        (save({"images": torch.zeros(1, 3, 4, 4)}, {"class_names": "[1]"}), "list of texts"),
        (save({"images": torch.zeros(1, 3, 4, 4)}, {"class_names": "[NaN]"}), "list of texts"),
        (save({"images": torch.zeros(1, 3, 4, 4)}, {"class_names": "9" * 5000}), "JSON"),
        (save({"images": torch.zeros(1, 3, 4, 4)}, {"class_names": '["\\ud800"]'}), "surrogate"),
        (save({"images": torch.zeros(1, 3, 4, 4)}, {"class_names": "[" * 10**5}), "JSON"),
    ],
)
def test_nonsense_is_refused(content, message):
    with pytest.raises(BlackBoxError, match=message):
        wire.decode_question(content)


def test_server_survives_nonsense(clip, question):
    with serving(InProcessModel(clip)) as endpoint:
        assert post(endpoint, b"nonsense")[0] == 400
        assert post(endpoint, b"", path="/etc/passwd")[0] == 404
        assert post(endpoint, b"", **{"Content-Length": "-1"})[0] == 400
        wrong_size = replace(question, images=torch.zeros(1, 3, 8, 8))
        status, reply = post(endpoint, wire.encode_question(wrong_size))
        assert status == 400
        assert "expected" in json.loads(reply)["error"]
        assert patient(endpoint)[0].ask(question).logits.shape == (5, 3)


def test_long_texts_and_many_classes_are_refused():
    images = torch.zeros(1, 3, 4, 4)
    limits = Limits(classes=2, characters=10)
    for names in (("a", "b", "c"), ("a" * 11,)):
        with pytest.raises(BlackBoxError, match="at most"):
            limits.check(Question(images, TextPrompt(names, ("{}",))))
    with pytest.raises(BlackBoxError, match="sentence_characters asked for, at most 600"):
        Limits().check(Question(images, TextPrompt(("a" * 300,), ("{}" * 150,))))


def test_answers_of_another_shape_are_refused():
    with pytest.raises(BlackBoxError, match=r"shape \(2, 3\), expected \(2, 4\)"):
        wire.decode_logits(wire.encode_logits(torch.zeros(2, 3)), (2, 4))


def test_labels_never_cross_the_wire(question):
    """Pitfall (f): images do; labels do not, in any form."""
    arrived = wire.decode_question(wire.encode_question(question))
    assert torch.equal(arrived.images, question.images)
    assert arrived.text == question.text
    assert set(vars(arrived)) == {"images", "text"}
    assert set(vars(arrived.text)) == {"class_names", "templates", "context"}


def test_loopback_unless_told_otherwise():
    with Endpoint(Scripted()) as endpoint:
        assert endpoint.url == f"http://127.0.0.1:{endpoint.port}"


def test_several_clients_at_once(question):
    with serving(Scripted()) as endpoint:
        threads = [
            threading.Thread(target=patient(endpoint)[0].ask, args=(question,)) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert (endpoint.served.queries, endpoint.served.calls) == (40, 8)


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:80",
        "ftp://host",
        "http://",
        "http://host?key=1",
        "http://127.0.0.1:99999",
        "http://127.0.0.1:http",
        "http://[::1",
    ],
)
def test_addresses_are_checked(url):
    with pytest.raises(ConfigError, match="expected e"):
        HTTPModel(url)


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_patience_is_checked(seconds):
    with pytest.raises(ConfigError, match="above 0 and at most 86400"):
        HTTPModel("http://127.0.0.1:80", timeout_seconds=seconds)


def test_a_token_is_sent_where_one_is_asked_for(question, caplog):
    token = "0123456789abcdef"
    with serving(Scripted(), place=Place(token=token)) as endpoint:
        with pytest.raises(BlackBoxError, match=r"401.*the token is missing or wrong"):
            patient(endpoint)[0].ask(question)
        with pytest.raises(BlackBoxError, match="401") as refused:
            patient(endpoint, token=token[::-1])[0].ask(question)
        assert token[::-1] not in str(refused.value)
        assert patient(endpoint, token=token)[0].ask(question).logits.shape == (5, 3)
    assert not caplog.records
    HTTPModel("http://192.0.2.1:80", token=token)
    assert "unencrypted" in caplog.text


def test_served_by_another_process(words):
    """The script itself, in a process of its own: weights and gradients cannot be reached."""
    command = [sys.executable, "scripts/serve_clip.py", "--port", "0", "--device", "cpu"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            url = server.stdout.readline().split(" at ")[1].split(";")[0]
            answer = HTTPModel(url, timeout_seconds=60).ask(
                Question(torch.zeros(2, 3, 32, 32), words)
            )
            server.send_signal(signal.SIGTERM)
            assert server.wait(60) == 0
            assert server.stdout.read() == "answered 2 queries\n"
        finally:
            server.kill()
    assert answer.logits.shape == (2, 3)
    assert answer.usage.queries == 2
