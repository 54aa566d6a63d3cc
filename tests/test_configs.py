"""Every configuration in the repository is loaded, resolved and built."""

from functools import cache
from pathlib import Path

import pytest
import yaml

from eval.attacks.spec import read_plan
from eval.choices import schema
from eval.comparison.spec import read_comparison
from eval.configurations import command_of
from eval.leakage.plan import read_leakage_plan
from eval.sweep.search import next_trials
from eval.sweep.spec import VALIDATION, read_sweep
from pfedmoap.config.schema import Config
from tests.helpers.places import ROOT

FILES = sorted(ROOT.glob("eval/configs/**/*.yaml"))


@cache
def configs_in(path: Path) -> list[Config]:
    """Those of a comparison, of each task and method once: its cells differ in seeds besides."""
    cells = read_comparison(path).cells
    return [*{(cell.task, cell.method): cell.config for cell in cells}.values()]


def build_all_but_the_method(config: Config) -> None:
    """Make every part's object, so that its own checks of its options run."""
    for section in config.sections:
        if section != "method":  # which needs the loaded backbone
            config.build(section)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_configuration_is_valid(path) -> None:
    content = yaml.safe_load(path.read_text())
    command = command_of(content)
    if command == "attack":
        for config in read_plan(path).configs.values():
            build_all_but_the_method(config)
    elif command == "leakage":
        for config in read_leakage_plan(path).configs.values():
            build_all_but_the_method(config)
    elif command == "sweep":
        found = read_sweep(path)
        for trial in next_trials(found, [], {}):
            for cell in found.cells(trial, VALIDATION):
                build_all_but_the_method(cell.config)
    elif command == "compare":
        for config in configs_in(path):
            build_all_but_the_method(config)
    else:
        build_all_but_the_method(schema().resolve(content))


def test_there_is_one_configuration_for_each_published_table_and_figure() -> None:
    names = {path.stem for path in FILES if path.parent.name == "paper"}
    tables = {f"table{number}" for number in (1, 2, 3, 4, 6, 7, 8, 9)}
    assert names == tables | {f"figure{number}" for number in (3, 4, 5, 6)}


PAPER = [path for path in FILES if path.parent.name == "paper"]


@pytest.mark.parametrize("path", PAPER, ids=lambda path: path.stem)
def test_attention_gates_of_the_paper_have_the_released_form(path) -> None:
    """Strided pooling and a scale of 10.0, whatever the defaults are."""
    for config in configs_in(path):
        method = config.sections["method"]
        if method["name"] == "pfedmoap" and method["gate"] == "attention":
            assert (method["pooling"], method["attention_scale"]) == ("strided", 10.0), path.name
            assert (method["score"], method["renormalise"]) == ("dot", False), path.name


PUBLISHED = ["compare", "compare-clusters", "compare-100-clients", "compare-fedsp", "compare-pfpt"]
PUBLISHED += ["compare-privacy-digits", "compare-privacy-scenes", "compare-other-models"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_figures_keep_the_options_that_they_were_made_with(name) -> None:
    """Gates have the default width; all methods trained in epochs."""
    for config in configs_in(ROOT / "eval/configs" / f"{name}.yaml"):
        method, training = (config.sections[part] for part in ("method", "training"))
        assert method["name"] != "pfedmoap" or method["gate_width"] == "auto"
        assert (training["schedule"], training["local_steps"]) == ("constant", None)
