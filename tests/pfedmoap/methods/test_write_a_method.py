"""The page that teaches how to write a method, run as it stands there."""

import re
import shlex

import pytest

from eval.cli import main
from pfedmoap.errors import ConfigError
from pfedmoap.methods.registry import method_class
from pfedmoap.runs.directory import RunDirectory
from tests.helpers.places import ROOT

PAGE = (ROOT / "docs" / "write-a-method.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the page's file, which the page's commands are run in."""
    (code,) = blocks("python")
    (tmp_path / re.search(r"Save it as `(\w+\.py)`", PAGE)[1]).write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))  # of the feature cache
    return tmp_path


def test_the_pages_method_keeps_the_contract_trains_and_is_evaluated(folder, capsys):
    (commands,) = blocks("bash")
    lines = commands.replace("\\\n", "").strip().splitlines()
    assert [shlex.split(line)[1] for line in lines] == ["check-method", "train", "evaluate"]
    for line in lines:
        program, *words = shlex.split(line)
        assert program == "pfedmoap"
        main(words)
    assert "between.py keeps the contract" in capsys.readouterr().out
    run = RunDirectory(folder / "runs" / "between")
    assert run.config["method"]["share"] == 0.3
    assert run.round == 2


def test_the_pages_method_does_what_it_says(folder, small, setting):
    kind = method_class("between.py")
    with pytest.raises(ConfigError, match=r"share must be .*at least 0 and at most 1, got 2"):
        kind(setting, share=2)
    world = small(kind(setting, share=1.0))
    state, local_states, _ = world.rounds(2)
    for client, answer in world.predict(state, local_states).items():
        own = world.method.classify(local_states[client], world.data[client].view())
        assert answer.logits.equal(own.logits)


def test_the_page_names_every_step_of_the_base():
    named = set(re.findall(r"`(\w+)`", PAGE))
    base = method_class("promptfl").__mro__[1]
    steps = {name for name, value in vars(base).items() if callable(value) and name[0] != "_"}
    inner = {
        "privacy_gap",
        "to_arrays",
        "from_arrays",
        "classify",
        "parts",
        "gap_of_server",
        "encoded",
    }
    assert steps - inner <= named
