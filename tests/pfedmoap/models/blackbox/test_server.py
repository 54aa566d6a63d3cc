"""A served model stops its work when nobody waits; its script fails with a message."""

import contextlib
import random
import runpy
import sys
import threading
from dataclasses import replace

import pytest
import torch

from pfedmoap.errors import BlackBoxError
from pfedmoap.models.blackbox import wire
from pfedmoap.models.blackbox.in_process import InProcessModel
from pfedmoap.models.blackbox.interface import Answer, Question, Usage
from pfedmoap.models.blackbox.server import Endpoint
from pfedmoap.serving.service import Abandoned
from tests.helpers.places import ROOT
from tests.helpers.serving import SOON, connected, request, running


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "nonsense"], "knows no architecture 'nonsense'"),
        (["--model", "lm:x"], "is a language model"),
        (["--device", "nonsense"], "unknown device"),
        (["--device", "cpu", "--port", "99999"], "cannot listen"),
        (["--host", "0.0.0.0"], "give --token_file, or --without_token where"),
        (["--token_file", "/no/such/file"], "the token cannot be read"),
        (["--device", "cpu", "--ssl_certfile", "/no/such/file"], "cannot be used"),
    ],
)
def test_the_script_fails_with_a_message(arguments, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["serve_clip.py", *arguments])
    with torch.enable_grad(), pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "scripts" / "serve_clip.py"), run_name="__main__")
    assert ended.value.code == 1
    assert message in capsys.readouterr().err


class Counting:
    """Counts the images and texts that it is asked about, and waits before each slice."""

    def __init__(self) -> None:
        self.rows = 0
        self.begun, self.may_go_on = threading.Event(), threading.Event()

    def ask(self, question: Question) -> Answer:
        self.begun.set()
        self.may_go_on.wait(SOON)
        self.rows += len(question.images)
        return Answer(torch.zeros(len(question.images), len(question.text.class_names)), Usage())


def test_no_more_rows_are_computed_once_the_asker_has_left(words):
    """The slice at work is finished; of 256 images nothing more is looked at."""
    model = Counting()
    content = wire.encode_question(Question(torch.zeros(256, 3, 4, 4), words))
    head = f"POST {wire.PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n"
    with Endpoint(model) as endpoint:
        with running(endpoint):
            with connected(endpoint.port) as asking:
                asking.sendall(head.encode() + content)
                assert model.begun.wait(SOON)
            for _ in range(3):  # by then the loop has seen it leave
                assert request(endpoint.port, "GET", "/healthz")[0] == 200
            model.may_go_on.set()
        assert model.rows == 32
        assert endpoint.served == Usage()


@pytest.mark.parametrize("kind", ["words", "vectors"])
def test_the_work_on_texts_stops_as_well(kind, request, clip):
    """The largest question of all is mostly texts: 1,024 classes in 128 templates."""
    text = request.getfixturevalue(kind)
    many = replace(text, class_names=tuple(f"thing {number}" for number in range(200)))
    question = Question(torch.zeros(40, 3, 32, 32), many)
    model, calls = InProcessModel(clip), []
    whole = model.ask(question).logits
    with pytest.raises(Abandoned):
        InProcessModel(clip).ask_in_slices(question, lambda: leave_after(calls, 4))
    assert len(calls) == 4
    calls.clear()
    sliced = InProcessModel(clip).ask_in_slices(question, lambda: calls.append(1)).logits
    assert len(calls) == 2 + 4 * max(1, len(many.templates))
    assert torch.allclose(sliced, whole, atol=1e-4)
    assert torch.equal(
        model.ask_in_slices(question, lambda: None).logits.argmax(1), whole.argmax(1)
    )


def leave_after(calls: list[int], number: int) -> None:
    calls.append(1)
    if len(calls) == number:
        raise Abandoned


def test_an_answer_that_is_no_number_is_refused(clip, words):
    """Finite pixels can overflow within the model."""
    question = Question(torch.full((1, 3, 32, 32), 3e38), words)
    with (
        Endpoint(InProcessModel(clip)) as endpoint,
        pytest.raises(BlackBoxError, match="not finite"),
    ):
        endpoint.answer(wire.encode_question(question))


def test_no_damaged_question_is_answered_by_anything_but_a_refusal(question, words):
    """Bytes changed, cut off and repeated: an answer or a `BlackBoxError`, and nothing else."""
    whole = wire.encode_question(replace(question, images=torch.ones(1, 3, 4, 4)))
    draw, model = random.Random(1), Counting()
    model.may_go_on.set()
    with Endpoint(model) as endpoint:
        for _ in range(500):
            content = bytearray(whole[: draw.choice((len(whole), draw.randrange(len(whole))))])
            for _ in range(draw.randint(1, 6)):
                place = draw.randrange(min(len(content), draw.choice((10, 300))) or 1)
                content[place : place + 1] = draw.choice((b"9", b'"', b"[", b"\xff", b"\x00", b""))
            with contextlib.suppress(BlackBoxError):
                endpoint.answer(bytes(content))
    assert endpoint.served.calls < 500
