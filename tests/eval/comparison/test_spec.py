"""Comparison files: layers, order and clear errors."""

from pathlib import Path
from typing import Any

import pytest

from eval.comparison.spec import comparison, read_comparison
from pfedmoap.errors import ConfigError
from tests.helpers.places import ROOT

GOOD: dict[str, Any] = {
    "base": {"rounds": {"rounds": 3}, "method": {"name": "promptfl", "context_length": 4}},
    "tasks": {"A b": {"data": "digits"}, "other": {"partition": {"name": "iid"}}},
    "methods": {
        "PromptFL": None,
        "pFedMoAP": {"method": "pfedmoap", "training": {"epochs": 7}},
    },
    "seeds": [0, 5],
}


def test_cells_are_grouped_so_that_neighbours_share_data():
    plan = comparison(GOOD)
    order = [(cell.task, cell.seed, cell.method) for cell in plan.cells]
    assert order[:4] == [
        ("A b", 0, "PromptFL"),
        ("A b", 0, "pFedMoAP"),
        ("A b", 5, "PromptFL"),
        ("A b", 5, "pFedMoAP"),
    ]
    assert len(order) == 8
    assert plan.reference == "PromptFL"
    assert plan.cells[1].folder == Path("cells/a-b/pfedmoap/seed0")


def test_layers_lie_on_each_other_and_a_seed_sets_all_three():
    cell = comparison(GOOD).cells[3]
    assert cell.config.sections["seeds"] == {"partition": 5, "few_shot": 5, "training": 5}
    assert cell.config.sections["rounds"]["rounds"] == 3
    assert cell.config.sections["training"]["epochs"] == 7
    assert cell.config.sections["method"]["context_length"] == 16  # a new method drops old options
    assert comparison(GOOD).cells[0].config.sections["method"]["context_length"] == 4


def test_where_cells_train_is_said_once_and_changes_none_of_them():
    there = comparison({**GOOD, "base": {**GOOD["base"], "engine": {"name": "flower"}}})
    for cell, here in zip(there.cells, comparison(GOOD).cells, strict=True):
        assert cell.config.name("engine") == "flower"
        assert here.config.name("engine") == "local"
        assert cell.config.sections == here.config.sections


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": {}}, "has no 'method'"),
        ({"methods": {}}, "methods must hold"),
        ({"methods": {"x": {"method": {"name": "pfedmoap", "expert": 1}}}}, "task 'A b', method"),
        ({"methods": {"x": {"seeds": {"training": 1}}}}, "methods.x sets seeds"),
        ({"methods": {"a b": None, "A-B": None}}, "same or no folder"),
        ({"methods": {"x": [1]}}, "must hold sections"),
        ({"seeds": []}, "seeds must be"),
        ({"seeds": [1, 1]}, "seeds must be"),
        ({"seeds": [True]}, "seeds must be"),
        ({"reference": "nobody"}, "reference: no method"),
        ({"differences": "personal"}, "differences must be clients or global"),
        ({"tasks": {"t": {"nonsense": {}}}}, "no section 'nonsense'"),
    ],
)
def test_mistakes_are_named(change: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        comparison(GOOD | change)


def test_files_that_are_no_comparison(tmp_path: Path):
    with pytest.raises(ConfigError, match="cannot read"):
        read_comparison(tmp_path / "absent.yaml")
    for text in ("- 1", "a: [", "3"):
        (tmp_path / "bad.yaml").write_text(text)
        with pytest.raises(ConfigError):
            read_comparison(tmp_path / "bad.yaml")


@pytest.mark.parametrize("name", ["compare.yaml", "compare-clusters.yaml", "compare-smoke.yaml"])
def test_committed_comparisons_resolve(name: str):
    folder = ROOT / "eval" / "configs"
    assert read_comparison(folder / name).cells
