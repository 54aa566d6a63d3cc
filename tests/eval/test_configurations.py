"""Configurations of the package are found by name from any folder, listed and copied."""

import tomllib
from pathlib import Path, PurePath

import pytest

from eval.api.options import resolved
from eval.choices import schema
from eval.commands import attack, compare, configs, demo, leakage, sweep
from eval.configurations import located, shipped
from eval.console import PlainConsole
from pfedmoap.errors import ConfigError
from tests.helpers.places import ROOT


@pytest.fixture(autouse=True)
def empty(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("given", ["demo.yaml", "demo", "./demo.yaml", "eval/configs/demo.yaml"])
def test_a_configuration_of_the_package_is_found_by_its_name(given):
    assert located(given) == ROOT / "eval/configs/demo.yaml"
    assert located("paper/table1").name == "table1.yaml"


def test_a_file_that_is_there_comes_first_and_a_folder_of_the_name_is_none(empty):
    (empty / "compare").mkdir()
    assert located("compare") == ROOT / "eval/configs/compare.yaml"
    (empty / "demo.yaml").write_text("rounds: {rounds: 7}\n")
    assert located("demo.yaml") == Path("demo.yaml")
    assert resolved("demo.yaml", {}).sections["rounds"]["rounds"] == 7


@pytest.mark.parametrize("given", ["../configurations.py", "paper/../demo.yaml", "/demo.yaml"])
def test_only_names_of_configurations_lead_into_the_package(given):
    assert located(given) == Path(given)


def test_the_wheel_holds_every_configuration():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["eval"]
    for name in shipped():
        place = PurePath("configs", name)
        same_depth = [p for p in patterns if len(PurePath(p).parts) == len(place.parts)]
        assert any(place.match(pattern) for pattern in same_depth), name


def test_a_wrong_name_is_told_the_nearest():
    with pytest.raises(ConfigError, match=r"nearest: compare-smoke\.yaml, .*`pfedmoap configs`"):
        located("compare-smok.yaml")


def test_options_are_read_from_it(capsys):
    config, _ = schema().parse(["--config", "scenes-domain.yaml"], "")
    assert config.sections["data"]["name"] == "scenes"
    assert resolved("scenes-domain", {}).sections == config.sections


class Found(Exception):  # noqa: N818  # nothing has failed
    """A file was looked for."""


@pytest.mark.parametrize(
    ("command", "reads", "words"),
    [
        (compare, "read_comparison", ["compare-smoke.yaml"]),
        (sweep, "read_sweep", ["sweep-smoke.yaml"]),
        (attack, "read_plan", ["attack.yaml"]),
        (leakage, "read_leakage_plan", ["leakage.yaml"]),
        (demo, "ExperimentLoader", ["--config", "hidden-groups.yaml"]),
    ],
)
def test_commands_take_it(command, reads, words, monkeypatch):
    def read(*given):
        raise Found(*given)

    monkeypatch.setattr(command, reads, read)
    with pytest.raises(Found) as found:
        command.main(words)
    if found.value.args:
        assert found.value.args == (ROOT / "eval/configs" / words[-1],)


def test_each_says_in_a_sentence_what_it_is_for(capsys, monkeypatch):
    monkeypatch.setattr(configs, "console", PlainConsole(width=400))
    configs.main([])
    lines = capsys.readouterr().out.splitlines()[1:]
    assert [line.split()[0] for line in lines] == list(shipped())
    for line, one in zip(lines, shipped().values(), strict=True):
        assert line.split()[1] == one.command
        assert one.about.endswith((".", "?")), one.name
        assert one.about in line


def test_one_is_printed_and_copied_and_overwrites_nothing(empty, capsys):
    text = (ROOT / "eval/configs/paper/table1.yaml").read_text()
    configs.main(["paper/table1"])
    assert capsys.readouterr().out == text
    configs.main(["paper/table1.yaml", "--copy"])
    assert "`pfedmoap compare table1.yaml`" in capsys.readouterr().out
    assert (empty / "table1.yaml").read_text() == text
    (empty / "table1.yaml").write_text("mine")
    for wrong, why in (
        (["paper/table1", "--copy"], "there already"),
        (["--copy"], "needs a name"),
        (["paper/tabel1"], "nearest: paper/table1.yaml"),
    ):
        with pytest.raises(SystemExit):
            configs.main(wrong)
        assert why in capsys.readouterr().err
    assert (empty / "table1.yaml").read_text() == "mine"
