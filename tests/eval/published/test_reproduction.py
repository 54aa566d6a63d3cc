"""Published tables: all of them planned, what can run run, and held against the paper's figures."""

import re
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from eval.commands import reproduce as command
from eval.comparison.spec import Comparison, read_comparison
from eval.published.agreement import hold_against, write_lines
from eval.published.figures import TABLES, Figure, PublishedTable
from eval.published.plan import plan_encoding, plan_runs
from eval.published.reproduction import Adjustments, adjusted, run_available
from pfedmoap.data.published.domain_trees import OFFICE_CALTECH10
from tests.helpers.places import ROOT

CONFIGS = ROOT / "eval" / "configs" / "paper"
NOT_IMPLEMENTED = {"pFedPrompt"}


def source(table: str):
    return yaml.safe_load((CONFIGS / f"table{table}.yaml").read_text())


@lru_cache
def plan_of(table: str) -> Comparison:
    return read_comparison(CONFIGS / f"table{table}.yaml")


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> Path:
    """A tree of Office-Caltech10 whose classes are colours: learnable at once."""
    root = tmp_path_factory.mktemp("data")
    for number, domain in enumerate(("amazon", "caltech", "dslr", "webcam")):
        for label, (folder, *_) in enumerate(OFFICE_CALTECH10.classes.values()):
            for image in range(12):
                rng = np.random.default_rng((number, label, image))
                pixels = rng.integers(0, 60, (16, 16, 3)) + 19 * label
                path = root / "office_caltech10" / domain / folder / f"frame_{image}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels.astype(np.uint8)).save(path)
    return root


def quick(cache: Path) -> dict[str, object]:
    return {
        "backbone": {"model": "embedded", "pretrained": None, "device": "cpu"},
        "features": {"views": 0, "cache": str(cache)},
        "rounds": {"rounds": 1},
        "training": {"epochs": 1, "learning_rate": 0.1},
    }


@pytest.mark.parametrize("table", TABLES)
def test_every_published_cell_has_a_run_of_its_own(table) -> None:
    plan = plan_of(table)
    published = TABLES[table]
    methods = {method for _, method in published.figures} - NOT_IMPLEMENTED
    assert methods == set(plan.methods)
    if not published.by_domain:
        assert {task for task, _ in published.figures} == set(plan.tasks)
    assert {cell.seed for cell in plan.cells} == {0, 1, 2}


def test_the_published_figures_were_copied_right() -> None:
    assert TABLES["1"].figures["DTD", "pFedMoAP"] == Figure(89.13, 0.54)
    assert TABLES["6"].figures["DTD, eps=25", "PromptFL"] == Figure(38.19, 0.66)
    assert TABLES["7"].figures["OxfordPets", "linear gate, 10 experts"] == Figure(52.78, 6.88)
    assert TABLES["9"].figures["Food101", "width 1024"] == Figure(89.20, 0.37)
    assert (
        not [  # without a spread, a gap of a tenth of a point would be "outside"
            (name, cell)
            for name, table in TABLES.items()
            if table.anchor
            for cell, figure in table.figures.items()
            if figure.std is None
        ]
    )
    for table in ("3", "4"):  # the average of the domains is the last column
        figures = TABLES[table].figures
        for method in {method for _, method in figures}:
            domains = [f.mean for (c, m), f in figures.items() if m == method and c != "average"]
            assert np.mean(domains) == pytest.approx(figures["average", method].mean, abs=0.02)


class TestPlan:
    """What a table takes, by hand."""

    def test_bytes_clients_and_rounds_of_table_2(self) -> None:
        plan = plan_of("2")
        runs = {(run.task, run.method): run for run in plan_runs(plan)}
        ours = runs["CIFAR10", "pFedMoAP"]
        assert (ours.clients, ours.cohort, ours.rounds, ours.seeds) == (100, 10, 120, 3)
        prompt = 16 * 512 * 4
        assert ours.up_bytes == 10 * 120 * prompt
        assert ours.down_bytes == 10 * ours.up_bytes
        assert runs["CIFAR10", "CoOp"].up_bytes == 0
        assert runs["CIFAR10", "ZS-CLIP"].train_seconds == 0

    def test_clients_of_domains(self) -> None:
        runs = plan_runs(plan_of("3"))
        assert {(run.clients, run.cohort) for run in runs if run.method != "CoOp"} == {(30, 8)}

    def test_images_are_counted_once_for_all_methods(self) -> None:
        encoding = {e.task: e for e in plan_encoding(plan_of("6"))}
        pets = 3669 + 3 * 16 * 37 * (1 + 8)
        assert encoding["OxfordPets, eps=50"].images == pets
        assert encoding["OxfordPets, eps=25"].images == 0
        cifar = plan_encoding(plan_of("2"))
        assert [e.images for e in cifar] == [60000, 60000]

    def test_a_faster_machine_takes_less_time(self) -> None:
        plan = plan_of("1")
        slow, fast = (sum(r.train_seconds for r in plan_runs(plan, f)) for f in (1e11, 2e11))
        assert slow == pytest.approx(2 * fast)

    def test_dry_run_prints_all_tables(self, capsys) -> None:
        command.main(["--dry-run", "--seeds=1"])
        printed = capsys.readouterr().out
        assert re.findall(r"^Table (\d):", printed, re.MULTILINE) == list(TABLES)
        assert len(re.findall(r"in all \d+ cells", printed)) == len(TABLES)
        assert all(len(line) <= 80 for line in printed.splitlines())


class TestAdjustments:
    """What a machine changes about a table."""

    def test_data_move_below_the_given_root(self) -> None:
        plan = adjusted(source("4"), Adjustments(Path("/disk")))
        assert plan.cells[0].config.sections["data"]["root"] == "/disk/office_caltech10"
        flowers = adjusted(source("1"), Adjustments(Path("/disk"), download=True, seeds=1))
        section = flowers.cells[0].config.sections["data"]
        assert (section["root"], section["download"]) == ("/disk", True)
        assert section["split_file"] == "split_zhou_OxfordFlowers.json"

    def test_official_divisions_seeds_and_overrides(self) -> None:
        changes = Adjustments(official_divisions=True, seeds=1, base={"rounds": {"rounds": 2}})
        plan = adjusted(source("1"), changes)
        assert plan.cells[0].config.sections["data"]["split_file"] is None
        assert {cell.seed for cell in plan.cells} == {0}
        assert {
            cell.config.sections["rounds"]["rounds"] for cell in plan.cells if cell.method != "CoOp"
        } == {2}


def test_runs_what_is_here_and_says_what_is_missing(photographs, tmp_path, cache) -> None:
    small = {
        **source("4"),
        "methods": {"ZS-CLIP": {"method": "zero_shot"}, "CoOp": {"method": "local_coop"}},
        "reference": "CoOp",
        "tasks": {"Office-Caltech10": {"data": "office_caltech10"}, "DN": {"data": "domainnet"}},
    }
    small["base"] = {**small["base"], "partition": {"name": "domain", "clients_per_domain": 2}}
    changes = Adjustments(data_root=photographs, base=quick(cache), seeds=2)
    plan = adjusted(small, changes)
    missing = run_available(plan, tmp_path)
    found = hold_against(TABLES["4"], plan, tmp_path, missing)
    lines = {(line.column, line.method): line for line in found.lines}
    average = lines["average", "CoOp"]
    assert average.seeds == 2
    assert average.verdict == "no anchor"
    domains = [lines[domain, "CoOp"].ours.mean for domain in OFFICE_CALTECH10.domains]
    assert average.ours.mean == pytest.approx(np.mean(domains))
    assert lines["average", "pFedMoAP"].verdict == "not implemented"
    (reason, cells), *others = found.reasons.items()
    assert not others
    assert "ai.bu.edu/M3SDA" in reason
    assert cells == ("DN / ZS-CLIP", "DN / CoOp")
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("metrics.jsonl")}
    assert run_available(plan, tmp_path) == missing
    assert written == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("metrics.jsonl")}
    write_lines(tmp_path / "lines.csv", found.lines)
    assert "average,CoOp," in (tmp_path / "lines.csv").read_text()


def test_inside_and_outside(photographs, tmp_path, cache) -> None:
    small = {
        **source("4"),
        "methods": {"ZS-CLIP": {"method": "zero_shot"}},
        "reference": "ZS-CLIP",
    }
    plan = adjusted(small, Adjustments(data_root=photographs, base=quick(cache), seeds=2))
    missing = run_available(plan, tmp_path)
    task = "Office-Caltech10"

    def verdict(mean: float | None, std: float | None) -> str:
        figures = {} if mean is None else {(task, "ZS-CLIP"): Figure(mean, std)}
        table = PublishedTable("", figures)
        return hold_against(table, plan, tmp_path, missing).lines[0].verdict

    ours = hold_against(PublishedTable("", {}), plan, tmp_path, missing).lines[0].ours
    assert ours.std is not None
    assert verdict(ours.mean + ours.std + 1.0, 1.01) == "inside"
    assert verdict(ours.mean - ours.std - 1.0, 0.99) == "outside"
    assert verdict(None, None) == "nothing published"


def test_the_command_says_what_to_fetch_and_ends_well(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pfedmoap.models.fetching.hub_reachable", lambda: False)
    monkeypatch.setattr("pfedmoap.models.fetching.try_to_load_from_cache", lambda *_: None)
    command.main(["1", "--seeds=1", "--quiet"])
    printed = capsys.readouterr().out
    assert "datasets.OxfordIIITPet('data', download=True)" in printed
    assert "create_model('RN50', pretrained='openai')" in printed
    assert re.search(r"pFedPrompt +- +0 +86\.46 ± 0\.15 +not implemented", printed)
