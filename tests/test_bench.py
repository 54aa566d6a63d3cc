"""The collector of benchmarks: what it runs, when it stops, and the form of the page it writes."""

import json
import re
from dataclasses import replace

import pytest

from scripts import bench
from scripts.bench import BENCHMARKS, LARGE, PAGE, PARTS, Benchmark, markdown, section, write_part
from tests.helpers.places import ROOT

TEXT = "# Performance\n\nAbout.\n\n## On a CPU\n\nold\n\n## On a GPU\n\nkept\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A place with scripts of its own."""
    (tmp_path / "scripts").mkdir()
    monkeypatch.setattr(bench, "ROOT", tmp_path)
    return tmp_path


ROWS = "open(sys.argv[-1], 'w').write('[{\"a\": 1}]')"


def script(folder, body=ROWS):
    (folder / "scripts" / "one.py").write_text(f"import json, sys\n{body}\n")
    return Benchmark("One thing", "one.py", cpu=("--a 1", "--b 2"), quick=("--q",))


def test_rows_become_a_table(folder):
    rows = [{"classes": 10, "ratio": "3x"}]
    body = f"open(sys.argv[-1], 'w').write({json.dumps(json.dumps(rows))})\nprint('printed')"
    found = section(script(folder, body), ("--a 1", "--b 2"), "cpu")
    head, _, tables = found.partition("`scripts/one.py --a 1 --device cpu`\n\n| classes |")
    assert head.startswith("### One thing\n\nMachine: ")
    assert tables
    assert found.count("| 10 | 3x |") == 2
    plain = replace(script(folder, body), takes_device=False)
    assert "`scripts/one.py --a 1`\n\n| classes |" in section(plain, ("--a 1",), "cpu")


def test_a_benchmark_that_disagrees_ends_the_run_and_writes_nothing(folder, monkeypatch):
    failing = script(folder, "print('the two ways disagree'); sys.exit(1)")
    monkeypatch.setattr(bench, "BENCHMARKS", (failing,))
    page = folder / "page.md"
    page.write_text(TEXT)
    with pytest.raises(SystemExit, match="the two ways disagree"):
        bench.main(page=str(page))
    assert page.read_text() == TEXT


def test_a_run_replaces_what_it_measured_and_leaves_the_rest(folder, monkeypatch):
    monkeypatch.setattr(bench, "BENCHMARKS", (script(folder),))
    page = folder / "page.md"
    page.write_text(TEXT)
    for _ in range(2):
        bench.main(page=str(page))
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


def test_a_quick_run_writes_no_page_of_its_own(folder, monkeypatch):
    monkeypatch.setattr(bench, "BENCHMARKS", (script(folder),))
    monkeypatch.setattr(bench, "PAGE", folder / "page.md")
    bench.main(quick=True)
    assert not (folder / "page.md").exists()


def test_large_sizes_are_measured_where_they_are_asked_for(folder, monkeypatch):
    monkeypatch.setattr(bench, "BENCHMARKS", (replace(script(folder), large=("--huge",)),))
    page = folder / "page.md"
    for large, quick, expected in ((False, False, 0), (True, False, 1), (True, True, 0)):
        page.write_text(TEXT)
        bench.main(large=large, quick=quick, page=str(page))
        assert page.read_text().count("--huge") == expected
        assert page.read_text().count(f"### One thing{LARGE}\n") == expected
    bench.main(large=True, page=str(page))
    bench.main(page=str(page))
    assert page.read_text().count("--huge") == 1, "another run leaves what is seldom measured"
    assert {one.script for one in BENCHMARKS if one.large} >= {"bench_pool.py", "bench_engine.py"}


def test_tables():
    rows = [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]
    assert markdown(rows) == ["| a | b |", "| --- | --: |", "| 1 | x |", "| 2 | y |"]


def test_every_benchmark_is_there_and_every_script_is_run():
    scripts = {one.script for one in BENCHMARKS}
    beside = {"bench.py", "bench_classes.py"}  # the collector, and one that takes 8 GiB
    assert {file.name for file in (ROOT / "scripts").glob("bench*.py")} == scripts | beside
    assert all(one.quick and (one.cpu or one.cuda) for one in BENCHMARKS)


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
            assert re.match(r"\nMachine: .+; \d{4}-\d\d-\d\d\.\n\n`scripts/bench_\w+\.py", body)
            assert re.search(r"`\n\n(\||```)", body)
