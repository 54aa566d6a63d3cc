"""A killed comparison, resumed, gives the tables of one that never stopped."""

import csv
import io
from pathlib import Path
from typing import Any

import pytest

from eval.comparison.cells import Results, read_results, run_comparison
from eval.comparison.csv_tables import clients_csv, curves_csv, table_csv
from eval.comparison.spec import Cell, Comparison, comparison
from eval.comparison.summary import table_rows
from eval.comparison.tables import latex, markdown, terminal_tables, write_tables
from eval.experiment import ExperimentLoader
from eval.published.reproduction import run_available
from eval.tracking.to_csv import CSVTracker
from eval.tracking.tracker import Tracked
from pfedmoap.errors import ConfigError, RunError
from tests.helpers.runs import small


def plan(cache: Path, **change: Any) -> Comparison:
    base = small(cache)
    del base["method"]
    source = {
        "base": base,
        "methods": {
            "zero-shot": {"method": "zero_shot"},
            "CoOp & co": {"method": {"name": "local_coop", "context_length": 2}},
        },
        "seeds": [0, 1],
        "reference": "zero-shot",
    }
    return comparison(source | change)


def without_seconds(text: str) -> list[dict[str, str]]:
    rows = csv.DictReader(io.StringIO(text))
    return [{key: row[key] for key in row if "seconds" not in key} for row in rows]


def tables(results: Results) -> list[Any]:
    return [
        without_seconds(table_csv(results)),
        without_seconds(curves_csv(results)),
        clients_csv(results),
    ]


@pytest.fixture(scope="module")
def whole(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Results:
    return run_comparison(plan(cache), tmp_path_factory.mktemp("whole"))


class KilledError(Exception):
    pass


@pytest.mark.parametrize("at", [(1, 0), (1, 1), (3, 1)])
def test_a_kill_between_and_inside_cells_changes_nothing(
    at: tuple[int, int], whole: Results, cache: Path, tmp_path: Path
):
    def kill(cell: Cell, done: int, round: int, last: int) -> None:
        if (done, round) == at:
            raise KilledError

    with pytest.raises(KilledError):
        run_comparison(plan(cache), tmp_path, advance=kill)
    resumed = run_comparison(plan(cache), tmp_path, resume=True)
    assert tables(resumed) == tables(whole)
    assert tables(read_results(tmp_path)) == tables(whole)


def test_finished_cells_are_not_touched_again(whole: Results, cache: Path, tmp_path: Path):
    run_comparison(plan(cache), tmp_path)
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("metrics.jsonl")}
    run_comparison(plan(cache), tmp_path, resume=True)
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("metrics.jsonl")} == before


def test_a_comparison_may_grow_but_not_change(cache: Path, tmp_path: Path):
    run_comparison(plan(cache, seeds=[0]), tmp_path)
    with pytest.raises(RunError, match="--resume"):
        run_comparison(plan(cache, seeds=[0]), tmp_path)
    assert len(run_comparison(plan(cache), tmp_path, resume=True).by_cell) == 4
    other = {"zero-shot": {"method": {"name": "zero_shot", "template": "{}"}}}
    changed = plan(cache, methods=plan(cache).source["methods"] | other)
    with pytest.raises(RunError, match=r"method\.template"):
        run_comparison(changed, tmp_path, resume=True)


@pytest.mark.parametrize("change", ["seeds", "methods", "tasks", "options"])
def test_another_comparison_does_not_replace_the_one_that_is_there(
    cache: Path, tmp_path: Path, change: str
):
    """Neither when it is compared nor when a table is reproduced."""
    out = tmp_path / "out"
    run_comparison(plan(cache, seeds=[0]), out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    other = {
        "seeds": {"seeds": [1]},
        "methods": {"methods": {"other": {"method": "zero_shot"}}, "reference": "other"},
        "tasks": {"tasks": {"other": {}}, "seeds": [0]},
        "options": {"base": plan(cache).source["base"] | {"sampling": {"shots": 3}}, "seeds": [0]},
    }[change]
    for run in (
        lambda: run_comparison(plan(cache, **other), out, resume=True),
        lambda: run_available(plan(cache, **other), out),
    ):
        with pytest.raises(RunError, match=r"another (comparison|configuration)"):
            run()
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize(
    "files",
    [
        {"table.csv": "mine"},
        {"comparison.json": '{"methods": ["mine"], "prices": []}'},
        {"comparison.json": "[]"},
        {"cells/app.py": "mine"},
    ],
    ids=str,
)
def test_a_folder_of_other_things_is_refused_and_left_as_it_is(cache, tmp_path, files, resume):
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    plan = comparison({"base": small(cache), "methods": {"promptfl": {"method": "promptfl"}}})
    with pytest.raises(RunError, match="no comparison of this package"):
        run_comparison(plan, tmp_path, resume=resume)
    with pytest.raises(RunError, match="no comparison of this package"):
        run_available(plan, tmp_path)
    found = {
        str(file.relative_to(tmp_path)): file.read_text()
        for file in tmp_path.rglob("*")
        if file.is_file()
    }
    assert found == files


def test_a_mistake_in_the_last_cell_is_known_before_the_first_runs(cache: Path, tmp_path: Path):
    methods = {
        "zero-shot": {"method": "zero_shot"},
        "too wide": {"method": {"name": "pfedmoap", "gate_width": 4096}},
    }
    with pytest.raises(ConfigError, match="method 'too wide': gate_width"):
        run_comparison(plan(cache, methods=methods), tmp_path)
    assert not list(tmp_path.rglob("metrics.jsonl"))
    run_comparison(plan(cache, seeds=[0]), tmp_path)  # the corrected command is not refused


def test_base_to_new_and_unseen_clients_have_columns(cache: Path, tmp_path: Path):
    base = small(cache, sampling={"shots": 4, "classes": "base", "unseen_clients": 1})
    del base["method"]
    results = run_comparison(plan(cache, base=base, seeds=[0]), tmp_path)
    row = table_rows(results)[1]
    assert row.new is not None
    assert row.harmonic is not None
    assert row.unseen is not None
    assert len(results.by_cell["default", "CoOp & co", 0].accuracy) == 3
    assert "new classes %" in markdown(results)


def test_rows_hold_the_last_round_and_the_spread_over_seeds(whole: Results):
    row = table_rows(whole)[1]
    runs = whole.of("default", "CoOp & co")
    means = [run.curve[-1].summary.mean for run in runs.values()]
    assert row.mean.mean == pytest.approx(sum(means) / 2)
    assert row.mean.std == pytest.approx(abs(means[0] - means[1]) / 2**0.5)
    assert (row.seeds, row.up_bytes.mean, row.global_union) == (2, 0.0, None)


def test_differences_of_global_models_are_paired_by_seed(cache: Path, tmp_path: Path):
    methods = {
        "zero-shot": {"method": "zero_shot"},
        "PromptFL": {"method": {"name": "promptfl", "context_length": 2}},
        "no global model": {"method": {"name": "local_coop", "context_length": 2}},
    }
    results = run_comparison(plan(cache, methods=methods, differences="global"), tmp_path)
    reference, row, without = table_rows(results)
    gap = row.difference
    assert gap is not None
    assert row.global_union is not None
    assert reference.global_union is not None
    assert gap.mean == pytest.approx(row.global_union.mean - reference.global_union.mean)
    assert (gap.unit, gap.units) == ("seeds", 2)
    assert without.difference is None
    assert "of the global models, paired by seed" in markdown(results)
    lonely = plan(cache, methods=methods, differences="global", reference="no global model")
    text = markdown(Results(lonely, results.by_cell))
    assert "difference" not in text.lower()


def test_every_form_of_the_table(whole: Results, tmp_path: Path):
    write_tables(whole, tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {
        "table.csv",
        "table.md",
        "table.tex",
        "curves.csv",
        "clients.csv",
    }
    text = markdown(whole)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({row.count("|") for row in rows}) == 1
    assert r"CoOp \& co" in latex(whole)
    assert latex(whole).count(r"\\") == 3
    assert len(terminal_tables(whole)) == 2


def test_memory_is_bounded_by_one_federation(cache: Path):
    loader = ExperimentLoader(progress=False)
    for cell in plan(cache, seeds=[0, 1, 2]).cells:
        loader.prepare(cell.config)
    assert len(loader.kept) == 3  # backbone, data set, federation


def test_trackers_are_told_of_every_cell_by_its_name(cache: Path, tmp_path: Path, monkeypatch: Any):
    """What several runs share lies in the comparison's folder."""
    monkeypatch.setattr("eval.tracking.tracker.pictures_of", lambda run, loader: [])
    names: list[tuple[str, Path, str | None]] = []
    begin = CSVTracker.open

    def noted(self: CSVTracker, tracked: Tracked, *known: Any) -> Any:
        names.append((tracked.name, tracked.home, tracked.group))
        return begin(self, tracked, *known)

    monkeypatch.setattr(CSVTracker, "open", noted)
    out = tmp_path / "tracked"
    run_comparison(plan(cache, seeds=[0]), out, track=["csv"])
    assert names == [
        ("default | zero-shot | seed 0", out / "tracking", "tracked"),
        ("default | CoOp & co | seed 0", out / "tracking", "tracked"),
    ]
    assert len(list(out.glob("cells/*/*/*/tracking/csv/clients.csv"))) == 2
