"""Help about a configuration: a screen at first, every part by name, and everything."""

import re
from inspect import signature

import pytest

from eval.choices import schema
from eval.cli import main
from pfedmoap.config.exact_options import command_parser
from pfedmoap.config.schema_help import help_page, topics
from pfedmoap.errors import ConfigError


@pytest.fixture(autouse=True)
def columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")


def page(capsys, *words, command="train"):
    with pytest.raises(SystemExit) as ended:
        main([command, *words])
    assert not ended.value.code, capsys.readouterr().err
    return capsys.readouterr().out


@pytest.mark.parametrize("command", ["train", "serve"])
def test_the_first_page_fits_a_screen_and_points_further(command, capsys):
    lines = page(capsys, "--help", command=command).splitlines()
    assert len(lines) <= (45 if command == "train" else 55)
    assert max(map(len, lines)) <= 100
    shown = "\n".join(lines)
    for words in ("--help PART", "--help method.pfedmoap", "--help all", "--out", "(default: runs"):
        assert words in " ".join(shown.split())
    named = re.findall(r"^  (\w+) ", shown, re.MULTILINE)
    assert set(named) == set(schema().fixed)
    for section in schema().defaults:
        assert re.search(rf"^  --{section} \w+\s+or ", shown, re.MULTILINE)


def test_every_topic_has_a_page_that_explains_its_options():
    forms = schema()
    parser = forms.parser_for(forms.defaults)
    every = help_page(forms, forms.defaults, parser, [], "all")
    for topic in set(topics(forms)) - {"all"}:
        shown = help_page(forms, forms.defaults, parser, [], topic)
        section, _, choice = topic.partition(".")
        choice = choice or forms.defaults.get(section, "")
        kind = forms.fixed.get(section) or forms.choices[section][choice]
        for option in set(signature(kind).parameters) - {"setting"}:
            assert f"  --{section}.{option}" in shown, topic
            assert f"  --{section}.{option}" in every
    assert "Annotated" not in every
    assert "Optional" not in every


def test_one_option_has_a_page(capsys):
    assert " ".join(page(capsys, "--help", "training.epochs").split()) == (
        "--training.epochs N Passes over the client's data in one round; at least 1 and at most "
        "1000000. (default: 5)"
    )
    assert "continue the run" in page(capsys, "--help=--resume")
    assert "--method.rank N" in page(capsys, "--method", "fedotp", "--help", "method.fedpgp")


@pytest.mark.parametrize(
    ("topic", "near"), [("trainig", "training"), ("method.promtfl", "method.promptfl")]
)
def test_an_unknown_topic_is_refused_with_the_nearest(topic, near):
    with pytest.raises(ConfigError, match=f"--help knows nothing about '{topic}'; nearest: {near}"):
        schema().parse(["--help", topic], "a test")


def test_help_says_null_where_null_is_what_an_option_takes(capsys):
    """It said "none takes all", and refused ``--sampling.shots none``."""
    shown = page(capsys, "--help", "sampling")
    assert "--sampling.shots N|null" in shown
    assert "null takes all" in " ".join(shown.split())
    every = " ".join(page(capsys, "--help", "all").split())
    rows = re.split(r" (?=--[\w.]+ )|(?<=\)) ", every)
    nullable = [row for row in rows if re.match(r"--[\w.]+ \S*\bnull\b", row)]
    assert len(nullable) > 15
    for row in nullable:
        text = re.sub(r"`none`|has none|are none of", "", row.partition(" ")[2].partition(" ")[2])
        assert not re.search(r"\bnone\b", text, re.IGNORECASE), row


def test_a_required_option_says_so():
    parser = command_parser("a test")
    parser.add_argument("--client", type=int, required=True, help="whose model")
    parser.add_argument("run", type=str, help="a folder")
    assert re.search(r"--client N +whose model \(required\)\n", parser.format_help())
    assert re.search(r"RUN +a folder\n", parser.format_help())
    assert parser.format_help().startswith("usage: ")
