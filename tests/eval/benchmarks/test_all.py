"""The collector of benchmarks: what it runs, when it stops, and the form of the page it writes."""

import json
import re
import sys
from dataclasses import replace

import pytest

from eval.benchmarks import all as collector
from eval.benchmarks import (
    classes,
    engine,
    evaluation,
    federation,
    images,
    pool,
    privacy,
    round,
    startup,
    step,
)
from eval.benchmarks.all import BENCHMARKS, LARGE, PARTS, Benchmark, markdown, section, write_part
from eval.commands import bench
from pfedmoap.errors import ConfigError
from tests.helpers.places import ROOT

TEXT = "# Performance\n\nAbout.\n\n## On a CPU\n\nold\n\n## On a GPU\n\nkept\n"
PAGE = ROOT / "docs" / "performance.md"
ROWS = "open(sys.argv[-1], 'w').write('[{\"a\": 1}]')"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A place with a benchmark of its own, which is what follows the program."""
    monkeypatch.setattr(collector, "PROGRAM", (sys.executable,))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def script(folder, body=ROWS):
    (folder / "one.py").write_text(f"import json, sys\n{body}\n")
    return Benchmark("One thing", "one.py", cpu=("--a 1", "--b 2"), quick=("--q",))


def test_rows_become_a_table(folder):
    rows = [{"classes": 10, "ratio": "3x"}]
    body = f"open(sys.argv[-1], 'w').write({json.dumps(json.dumps(rows))})\nprint('printed')"
    found = section(script(folder, body), ("--a 1", "--b 2"), "cpu")
    head, _, tables = found.partition("`pfedmoap bench one.py --a 1 --device cpu`\n\n| classes |")
    assert head.startswith("### One thing\n\nMachine: ")
    assert tables
    assert found.count("| 10 | 3x |") == 2
    plain = replace(script(folder, body), takes_device=False)
    assert "`pfedmoap bench one.py --a 1`\n\n| classes |" in section(plain, ("--a 1",), "cpu")


def test_a_benchmark_that_disagrees_writes_nothing_and_others_are_written(folder, monkeypatch):
    body = f"print('the two ways disagree'); sys.exit(1) if '--a' in sys.argv else {ROWS}"
    failing = script(folder, body)
    good = replace(failing, title="Other", cpu=("--b 2",))
    monkeypatch.setattr(collector, "BENCHMARKS", (failing, good))
    page = folder / "page.md"
    page.write_text(TEXT)
    with pytest.raises(SystemExit, match="the two ways disagree"):
        collector.main(page=str(page))
    text = page.read_text()
    assert "### Other\n" in text
    assert "### One thing" not in text


def test_a_run_replaces_what_it_measured_and_leaves_the_rest(folder, monkeypatch):
    monkeypatch.setattr(collector, "BENCHMARKS", (script(folder),))
    page = folder / "page.md"
    page.write_text(TEXT)
    for _ in range(2):
        collector.main(page=str(page))
        text = page.read_text()
        assert text.startswith(
            "# Performance\n\nAbout.\n\n## On a CPU\n\n### One thing\n\nMachine: "
        )
        assert text.endswith("\n## On a GPU\n\nkept\n")
        assert text.count("### One thing") == 1
        assert "old" not in text
    write_part(page, "cuda", {"Other": "### Other\n\nfirst\n"})
    write_part(page, "cuda", {"One thing": "### One thing\n\nslow\n"})
    write_part(page, "cuda", {"Other": "### Other\n\nsecond\n"})
    ends = "## On a GPU\n\n### One thing\n\nslow\n\n### Other\n\nsecond\n"
    assert page.read_text().endswith(ends)
    assert page.read_text().count("### One thing") == 2
    page.write_text("# Performance\n")
    with pytest.raises(SystemExit, match="no heading"):
        write_part(page, "cpu", {})


def test_a_page_is_written_only_where_one_is_named_and_made_where_there_is_none(
    folder, monkeypatch
):
    monkeypatch.setattr(collector, "BENCHMARKS", (script(folder),))
    collector.main()
    assert {file.name for file in folder.iterdir()} == {"one.py"}
    collector.main(quick=True, page="page.md")
    text = (folder / "page.md").read_text()
    assert text.startswith("# Performance\n\n## On a CPU\n\n### One thing\n\nMachine: ")
    assert text.endswith("\n## On a GPU\n")


def test_large_sizes_are_measured_where_they_are_asked_for(folder, monkeypatch):
    monkeypatch.setattr(collector, "BENCHMARKS", (replace(script(folder), large=("--huge",)),))
    page = folder / "page.md"
    for large, quick, expected in ((False, False, 0), (True, False, 1), (True, True, 0)):
        page.write_text(TEXT)
        collector.main(large=large, quick=quick, page=str(page))
        assert page.read_text().count("--huge") == expected
        assert page.read_text().count(f"### One thing{LARGE}\n") == expected
    collector.main(large=True, page=str(page))
    collector.main(page=str(page))
    assert page.read_text().count("--huge") == 1, "another run leaves what is seldom measured"
    assert {one.name for one in BENCHMARKS if one.large} >= {"pool", "engine"}


def test_a_benchmark_that_is_none_is_refused_before_anything_runs(folder, monkeypatch):
    monkeypatch.setattr(collector, "BENCHMARKS", (script(folder, "1 / 0"),))
    with pytest.raises(ConfigError, match=r"no benchmark 'one\.pi'; nearest: one\.py"):
        collector.main(only=("one.py", "one.pi"))


def test_tables():
    rows = [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]
    assert markdown(rows) == ["| a | b |", "| --- | --: |", "| 1 | x |", "| 2 | y |"]


def test_every_benchmark_is_there_and_every_part_is_run():
    parts = {file.stem for file in (ROOT / "eval/benchmarks").glob("[a-z]*.py")}
    beside = {"all", "classes"}  # the collector, and one that takes 8 GiB
    assert parts - {"echoes"} == {*bench.PARTS} == {one.name for one in BENCHMARKS} | beside
    assert all(one.quick and (one.cpu or one.cuda) for one in BENCHMARKS)


MODULES = (classes, engine, evaluation, federation, images, pool, privacy, round, startup, step)
RUNS = [
    (one, " ".join([words, "--device cpu" * one.takes_device, "--json_file rows.json"]).strip())
    for one in BENCHMARKS
    for words in (*one.cpu, *one.cuda, *one.quick, *one.large)
]


@pytest.mark.parametrize(("one", "words"), RUNS, ids=[f"{one.name} {w}" for one, w in RUNS])
def test_every_run_has_options_that_its_benchmark_knows(one, words):
    (module,) = (module for module in MODULES if module.__name__.endswith(f".{one.name}"))
    given = bench.options_of(module, words.split())
    assert given["json_file"] == "rows.json"


def test_the_page_has_a_machine_and_the_command_above_each_table():
    """What is on the page was written by the collector, or says that it was not measured."""
    text = PAGE.read_text()
    heads = [f"## {part}" for part in PARTS.values()]
    assert [line for line in text.splitlines() if line.startswith("## ")] == heads
    for part in text.split("\n## ")[1:]:
        if "### " not in part:
            assert "Not measured" in part
            continue
        titles = [one.title + end for one in BENCHMARKS for end in ("", LARGE)]
        for measured in part.split("\n### ")[1:]:
            title, _, body = measured.partition("\n")
            assert title in titles
            assert re.match(r"\nMachine: .+; \d{4}-\d\d-\d\d\.\n\n`pfedmoap bench \w+", body)
            assert re.search(r"`\n\n(\||```)", body)
