"""What the documentation names exists: files, tests, methods and options."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from eval.contract.suite import CHECKS
from pfedmoap.methods.registry import Methods, method_class
from tests.helpers.places import ROOT

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    ROOT / ".github" / "pull_request_template.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
TESTS = {
    name
    for file in (ROOT / "tests").rglob("test_*.py")
    for name in re.findall(r"def (test_\w+)", file.read_text())
}
WRITTEN_BY_COMMANDS = {"docs/compatibility.md"}


@pytest.fixture(params=PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def page(request) -> Path:
    return request.param


def test_local_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#]+)(?:#[\w-]*)?\)", page.read_text())
    local = [link for link in links if "://" not in link]
    assert not [link for link in local if not (page.parent / link).exists()]


def test_named_tests_exist(page):
    named = set(re.findall(r"`(test_\w+)`", page.read_text()))
    assert not named - TESTS
    checks = re.findall(r'contract suite,\s+"([^"]+)"', page.read_text())
    assert not {" ".join(check.split()) for check in checks} - CHECKS.keys()


def test_named_scripts_and_configurations_exist(page):
    named = re.findall(
        r"(?<!/)\b((?:scripts|eval)/(?!test_)[\w/-]+\.(?:py|yaml))", page.read_text()
    )
    named += re.findall(r"\btests/[a-z_/]+\.py", page.read_text())
    assert not [name for name in named if not (ROOT / name).exists()]


def test_named_files_of_this_repository_exist(page):
    named = re.findall(
        r"`((?:pfedmoap|privacy|eval|scripts|tests|tools|docs|\.ci|\.github)/[\w./-]*)`",
        page.read_text(),
    )
    existing = [name for name in named if "NAME" not in name]
    missing = [name for name in existing if not (ROOT / name).exists()]
    assert not set(missing) - WRITTEN_BY_COMMANDS


def test_named_make_targets_exist(page):
    targets = re.findall(r"^([\w -]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    known = {name for names in targets for name in names.split()}
    shown = re.findall(r"(?:^|`)make ([a-z][a-z-]*)", page.read_text(), re.MULTILINE)
    assert not set(shown) - known


def test_the_documentation_lists_its_pages():
    listed = (ROOT / "docs" / "README.md").read_text()
    pages = {file.name for file in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert not {name for name in pages if f"({name})" not in listed}


def test_nothing_is_left_to_be_filled_in(page):
    assert not re.findall(r"^(?:[A-Z]{4,}|TODO.*|XXX.*)$", page.read_text(), re.MULTILINE)


def test_options_of_shown_commands_are_known(page):
    """Each ``--method.x`` beside a ``--method NAME`` is an option of that method."""
    text = page.read_text().replace("\\\n", " ")
    for line in re.findall(r"^.*scripts/train\.py.*$", text, re.MULTILINE):
        found = re.search(r"--method (\w+)(?![\w./])", line)
        name = found[1] if found else "pfedmoap"
        known = {field.name for field in fields(method_class(name))}
        for option in re.findall(r"--method\.(\w+)", line):
            assert option in known, f"{name} has no {option}"


def test_every_method_has_a_page():
    pages = {file.stem.replace("-", "_") for file in (ROOT / "docs" / "methods").glob("*.md")}
    assert not set(Methods()) - pages


def test_the_page_of_each_baseline_says_whether_it_beats_what_its_paper_beats():
    """But for `zero-shot`, which trains nothing, and this package's own method."""
    pages = {*(ROOT / "docs" / "methods").glob("*.md")}
    said = {page for page in pages if "**What its paper says it beats**:" in page.read_text()}
    assert {page.stem for page in pages - said} == {"README", "zero-shot", "evidence-mixture"}
