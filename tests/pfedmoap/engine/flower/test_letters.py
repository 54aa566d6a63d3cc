"""Orders and answers are JSON of one exact form; anything else is refused."""

import pytest
from flwr.app import ConfigRecord, RecordDict

from pfedmoap.engine.flower.greeting import (
    SECTIONS,
    Greeting,
    Welcome,
    greeting_json,
    read_greeting,
    read_welcome,
    welcome_json,
)
from pfedmoap.engine.flower.letters import (
    Answer,
    Order,
    answer_json,
    check_answer,
    order_json,
    read_answer,
    read_order,
    seal,
    unseal,
)
from pfedmoap.engine.flower.members import Profile
from pfedmoap.errors import UpdateRejectedError
from pfedmoap.wire.messages import ClientId
from pfedmoap.wire.said import one_line

ORDER = Order("f0", ClientId(3), 2, 1, "abc", "float16")
ANSWER = Answer("f0", ClientId(3), 2, "abc", 7, {"train_loss": 0.5}, 1.5)
WELCOME = Welcome("f0", {name: {} for name in SECTIONS}, ("a", "b"), ("{}.",), "weights", "key")


def through(record):
    about, arrays = unseal(seal(record))
    assert not arrays
    return about


def test_each_letter_is_read_as_it_was_written():
    assert read_order(through(order_json(ORDER))) == ORDER
    assert read_answer(through(answer_json(ANSWER))) == ANSWER
    assert read_welcome(through(welcome_json(WELCOME))) == WELCOME
    greeting = Greeting("site-a", Profile((1, 2), (0, 1)))
    assert read_greeting(through(greeting_json(greeting)), 2) == greeting
    assert read_greeting(through(greeting_json(Greeting("a", Profile(), "no"))), 2).refused == "no"


@pytest.mark.parametrize("name", ["federation", "client", "round", "nonce"])
def test_an_answer_to_anything_else_is_refused(name):
    assert check_answer(ANSWER, ORDER) == ANSWER
    other = answer_json(ANSWER) | {name: 9 if name in ("client", "round") else "other"}
    with pytest.raises(UpdateRejectedError, match=name):
        check_answer(read_answer(other), ORDER)


@pytest.mark.parametrize(
    "change",
    [{"round": 0}, {"round": 1.5}, {"client": True}, {"committed": -1}, {"wire": "int8"}, {"x": 1}],
)
def test_an_order_of_another_form_is_refused(change):
    with pytest.raises(UpdateRejectedError, match="no order"):
        read_order(order_json(ORDER) | change)


@pytest.mark.parametrize(
    "change", [{"num_examples": 1.5}, {"metrics": [1]}, {"scores": {"a": "b"}}, {"sat_out": 3}]
)
def test_an_answer_of_another_form_is_refused(change):
    with pytest.raises(UpdateRejectedError, match="no answer"):
        read_answer(answer_json(ANSWER) | change)


@pytest.mark.parametrize(
    "greeting",
    [
        greeting_json(Greeting("../a", Profile())),
        greeting_json(Greeting("a", Profile((1,), ()))),
        greeting_json(Greeting("a", Profile((1, -2), ()))),
        {"name": "a"},
    ],
)
def test_a_greeting_of_another_form_is_refused(greeting):
    with pytest.raises(UpdateRejectedError, match="no greeting"):
        read_greeting(greeting, 2)


@pytest.mark.parametrize("federation", ["../f0", "", "a/b"])
def test_a_federation_whose_id_is_no_name_of_a_folder_is_refused(federation):
    with pytest.raises(UpdateRejectedError, match="no welcome"):
        read_welcome(welcome_json(WELCOME) | {"federation": federation})


@pytest.mark.parametrize(
    "content",
    [
        RecordDict(),
        RecordDict({"other": ConfigRecord({"json": "{}"})}),
        RecordDict({"pfedmoap.about": ConfigRecord({"json": 3})}),
        RecordDict({"pfedmoap.about": ConfigRecord({"json": "{"})}),
        RecordDict({"pfedmoap.about": ConfigRecord({"json": '{"a": 1e999}'})}),
        RecordDict({"pfedmoap.about": ConfigRecord({"json": '{"a": 1, "a": 2}'})}),
        RecordDict({"pfedmoap.about": ConfigRecord({"json": " " * (2**20 + 1)})}),
    ],
)
def test_content_that_is_none_of_ours_is_refused(content):
    with pytest.raises(UpdateRejectedError):
        unseal(content)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("a\r\nround 9: done", r"a\x0d\x0around 9: done"),
        ("\x1b[2J\x9b0m\x7f", r"\x1b[2J\x9b0m\x7f"),
        ("a\u202eb\u2028c\ud800", r"a\u{202e}b\u{2028}c\u{d800}"),
        ("Größe ok", "Größe ok"),
        ("x" * 2000, "x" * 897 + "..."),
    ],
)
def test_what_another_machine_says_is_one_line_and_acts_nowhere(said, shown):
    assert one_line(said) == shown
    assert one_line(said).isprintable()


def test_what_a_site_says_is_in_every_output_one_line():
    """Reasons go to the log, the metrics, the status and the report."""
    why = "well\nround 9: site-a has left\x1b[2J"
    answer = read_answer(answer_json(ANSWER) | {"sat_out": why})
    greeting = read_greeting(greeting_json(Greeting("a", Profile(), why)), 2)
    assert answer.sat_out == greeting.refused == r"well\x0around 9: site-a has left\x1b[2J"
    with pytest.raises(UpdateRejectedError) as unknown:
        read_answer(answer_json(ANSWER) | {why: 1})
    with pytest.raises(UpdateRejectedError) as lacking:
        read_greeting({why: 1, "name": "a", "profile": {}, "refused": None}, 2)
    assert str(unknown.value).isprintable()
    assert str(lacking.value).isprintable()
