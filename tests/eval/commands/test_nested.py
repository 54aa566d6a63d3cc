"""Commands within commands: each is found, and says its full name."""

from importlib import import_module

import pytest

from eval.cli import COMMANDS, main
from eval.commands.nested import Part, run_part
from pfedmoap.config.exact_options import called, command_parser, parse
from pfedmoap.config.introspection import options_known
from pfedmoap.errors import ConfigError


def nested() -> list[tuple[str, str]]:
    modules = {name: import_module(f"eval.commands.{name.replace('-', '_')}") for name in COMMANDS}
    return [(name, part) for name in modules for part in options_known(modules[name].main).parts]


def test_the_help_of_every_command_within_another_says_its_full_name(capsys):
    found = nested()
    assert {name for name, _ in found} == {"privacy", "bench"}
    for name, part in found:
        with pytest.raises(SystemExit) as ended:
            main([name, part, "--help"])
        assert not ended.value.code
        assert capsys.readouterr().out.startswith(f"usage: pfedmoap {name} {part} ")


def test_the_help_of_a_command_lists_those_within_it(capsys):
    for name in ("privacy", "bench"):
        with pytest.raises(SystemExit):
            main([name, "--help"])
        lines = capsys.readouterr().out.splitlines()
        for part in (part for command, part in nested() if command == name):
            assert any(line.startswith(f"  {part} ") for line in lines)


def test_one_is_run_with_its_own_words_and_a_wrong_name_is_refused(monkeypatch):
    ran = []
    parts = {"plan": Part("plans", ran.append), "go": Part("goes", ran.append)}
    run_part(parts, ["go", "--fast", "plan"], "Go.", "action")
    assert ran == [["--fast", "plan"]]
    with pytest.raises(ConfigError, match="no action 'plna'; nearest: plan; there are: plan, go"):
        run_part(parts, ["plna"], "Go.", "action")
    with pytest.raises(ConfigError, match="required: action"):
        run_part(parts, [], "Go.", "action")


def test_a_script_is_called_by_its_file(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["scripts/privacy.py"])
    shown = Part("shows", lambda words: parse(command_parser("Show."), words))
    with pytest.raises(SystemExit):
        run_part({"show": shown}, ["show", "--help"], "Go.", "action")
    assert capsys.readouterr().out.startswith("usage: privacy.py show [OPTIONS]")
    with pytest.raises(SystemExit), called("pfedmoap privacy"):
        run_part({"show": shown}, ["show", "--help"], "Go.", "action")
    assert capsys.readouterr().out.startswith("usage: pfedmoap privacy show [OPTIONS]")
