"""Options have exact names, on every command line and in every file."""

import re
from dataclasses import replace

import pytest

from eval.choices import schema
from pfedmoap.config.exact_options import command_parser, keys_of, parse, refuse_unknown
from pfedmoap.errors import ConfigError
from tests.helpers.places import ROOT


def test_the_beginning_of_an_option_is_not_that_option():
    parser = command_parser("a test")
    parser.add_argument("--clients_per_domain", type=int, default=1)
    parser.add_argument("words", type=str, nargs="*")
    with pytest.raises(ConfigError, match=r"no option --clients; nearest: --clients_per_domain$"):
        parse(parser, ["--clients", "4"])
    with pytest.raises(ConfigError, match=r"no option --clients; nearest"):
        parse(parser, ["--clients=4"])
    assert parse(parser, ["--clients_per_domain=4"]).clients_per_domain == 4
    assert parse(parser, ["--", "--clients"]).words == ["--clients"]


@pytest.mark.parametrize(
    ("given", "nearest"),
    [
        ("--partition.clients_per", "--partition.clients_per_domain"),
        ("--partition.client_per_domain", "--partition.clients_per_domain"),
        ("--training.epoch", "--training.epochs"),
        ("--round.rounds", "--rounds.rounds"),
        ("--methd", "--method"),
        ("--devic", "--device"),
    ],
)
def test_an_unknown_option_is_one_line_with_the_nearest(given: str, nearest: str, capsys):
    with pytest.raises(ConfigError) as refused:
        schema().parse(["--partition", "domain", given, "4"], "a test")
    message = str(refused.value)
    assert message.startswith(f"there is no option {given}; nearest: ")
    assert nearest in re.split(r"[ ,]+", message)
    assert "\n" not in message
    assert capsys.readouterr() == ("", "")


def test_no_option_of_any_choice_can_be_shortened():
    """Every option of every choice, one letter short, is refused or is an option itself."""
    whole = schema()
    parsers = [whole.parser_for(whole.defaults)]
    for section, choices in whole.choices.items():
        alone = replace(whole, fixed={}, choices={section: choices})
        parsers += [alone.parser_for({section: name}) for name in choices]
    checked = set()
    for parser in parsers:
        known = set(re.findall(r"(?<!\S)--[\w.-]*\w", parser.format_help()))
        checked |= known
        for option in known:
            if len(option) > 3 and option[:-1] not in known and option != "--help":
                with pytest.raises(ConfigError, match="there is no option"):
                    parse(parser, [f"{option[:-1]}=1"])
    assert len(checked) > 200
    assert checked >= {"--method.experts", "--training.epochs", "--privacy.epsilon", "--data.root"}


def test_no_command_has_a_parser_that_takes_prefixes():
    for folder in ("pfedmoap", "privacy", "eval", "scripts", "tools"):
        for file in (ROOT / folder).rglob("*.py"):
            for call in re.findall(r"(?:ArgumentParser|auto_cli)\([^)]*\)", file.read_text()):
                exact = "allow_abbrev=False" in call
                assert exact or "parse_args" not in file.read_text(), f"{file}: {call}"


@pytest.mark.parametrize(
    ("config", "nearest"),
    [
        ({"training": {"epoch": 2}}, "training.epoch; nearest: training.epochs"),
        ({"partition": {"name": "domain", "client_per_domain": 2}}, "partition.clients_per_domain"),
    ],
)
def test_an_unknown_key_of_a_file_is_one_line_with_the_nearest(config, nearest: str, tmp_path):
    with pytest.raises(ConfigError) as refused:
        schema().resolve(config)
    assert nearest in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_value_that_holds_names_is_the_parsers_matter():
    assert keys_of({"a": {"b": {"c": 1}, "d": 2}, "e": 3}, ["a.b", "a.d", "e"]) == [
        "a.b",
        "a.d",
        "e",
    ]
    refuse_unknown("a.b.c", ["a.b"])
    with pytest.raises(ConfigError, match="`--help all` lists"):
        refuse_unknown("zzz", ["a.b"])
