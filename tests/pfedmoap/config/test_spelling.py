"""Flags without a value, null in whatever way it is written, values as help shows them."""

from dataclasses import dataclass
from typing import Literal

import pytest

from eval.cli import COMMANDS
from eval.commands import reproduce
from pfedmoap.config.exact_options import command_parser, parse
from pfedmoap.config.sampling import Seeds
from pfedmoap.config.schema import Schema
from pfedmoap.config.spelling import takes, words_of, written
from pfedmoap.errors import ConfigError
from tests.helpers.places import ROOT


@dataclass(frozen=True)
class Alpha:
    """A choice.

    Attributes:
        flag: A switch.
        depth: How deep.
    """

    flag: bool = False
    depth: int | None = 1


SCHEMA = Schema({"seeds": Seeds}, {"method": {"alpha": Alpha}}, {"method": "alpha"})


@pytest.fixture
def parser():
    made = command_parser("a test")
    made.add_argument("words", type=str, nargs="*")
    made.add_argument("--resume", type=bool, default=False)
    made.add_argument("--known", type=bool | None, default=None)
    made.add_argument("--graphs", type=bool | Literal["auto"], default="auto")
    made.add_argument("--shots", type=int | None, default=3)
    made.add_argument("--text", type=str | None, default="x")
    made.add_argument("--keep", action="store_true")
    return made


@pytest.mark.parametrize(
    ("line", "resume", "words"),
    [
        ("", False, []),
        ("--resume", True, []),
        ("--resume true", True, []),
        ("--resume false", False, []),
        ("--resume=False", False, []),
        ("--resume run", True, ["run"]),
        ("run --resume --keep", True, ["run"]),
        ("-- --resume", False, ["--resume"]),
    ],
)
def test_a_flag_needs_no_value_and_takes_one(parser, line, resume, words):
    found = parse(parser, line.split())
    assert (found.resume, found.words) == (resume, words)


def test_flags_of_every_kind(parser):
    assert parse(parser, ["--known"]).known is True
    assert parse(parser, ["--known", "null"]).known is None
    assert parse(parser, ["--graphs"]).graphs is True
    assert parse(parser, ["--graphs", "auto"]).graphs == "auto"
    assert parse(parser, ["--keep", "true", "a"]).keep is True
    assert parse(parser, ["--keep", "false"]).keep is False
    with pytest.raises(ConfigError, match="resume must be true or false"):
        parse(parser, ["--resume=perhaps"])


@pytest.mark.parametrize("word", ["null", "none", "None"])
def test_null_may_be_written_as_python_does_where_no_text_is_taken(parser, word):
    assert parse(parser, ["--shots", word]).shots is None
    assert parse(parser, [f"--shots={word}"]).shots is None
    assert parse(parser, ["--text", word]).text == (None if word == "null" else word)


def test_options_of_a_configuration_are_flags_too():
    assert SCHEMA.parse(["--method.flag"], "")[0].sections["method"]["flag"] is True
    assert SCHEMA.parse(["--method.flag", "--seeds.training", "2"], "")[0].sections["seeds"] == {
        "partition": 0,
        "few_shot": 0,
        "training": 2,
    }
    words = ["--resume", "--method", "alpha", "--method.depth", "none"]
    config, options = SCHEMA.parse(words, "", {"resume": (False, "go on")})
    assert options == {"resume": True}
    assert config.sections["method"] == {"name": "alpha", "flag": False, "depth": None}


def test_no_command_has_a_flag_that_refuses_a_value(tmp_path, monkeypatch):
    """Argparse's own flags are a second kind; `--quiet true` has to work everywhere."""
    for name in COMMANDS:
        file = ROOT / f"eval/commands/{name.replace('-', '_')}.py"
        assert "store_true" not in file.read_text(), file
    shown = []
    monkeypatch.setattr(reproduce, "adjusted", lambda *given: None)
    monkeypatch.setattr(reproduce, "print_plan", lambda *given: shown.append(given))
    for words in (["--dry-run"], ["--dry-run", "true", "--quiet"]):
        reproduce.main(["1", *words])
    assert len(shown) == 2


def test_what_options_take():
    assert takes(bool | None) == "true|false|null"
    assert takes(dict[str, float]) == "{NAME: X,...}"
    assert words_of(int | Literal["auto"] | None) == {"auto", "null"}
    assert written({"a": (1, None)}) == "{a: [1, null]}"
