"""The page of versions that the suite ran with: what is kept, and that it is still true."""

import re

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.helpers.places import ROOT
from tools.compatibility import PAGE, dependencies, read_page, write_page

TABLE = read_page(PAGE.read_text())
NAMES = {canonicalize_name(one.name): one for one in dependencies()}


def floor(requirement: Requirement) -> Version:
    (bound,) = [one for one in requirement.specifier if one.operator == ">="]
    return Version(bound.version)


def test_both_ends_and_the_lock_were_tried():
    assert {column.partition(",")[0] for column in TABLE} == {"latest", "locked", "oldest"}


@pytest.mark.parametrize("column", sorted(TABLE))
def test_the_suite_was_green_and_every_dependency_is_named(column):
    cells = TABLE[column]
    assert cells["failed"] == "0"
    assert int(cells["passed"]) > 2000
    assert set(NAMES) <= set(cells)


@pytest.mark.parametrize("column", sorted(TABLE))
@pytest.mark.parametrize("name", NAMES)
def test_versions_are_those_that_the_ranges_admit(column, name):
    found, kind = Version(TABLE[column][name]), column.partition(",")[0]
    assert NAMES[name].specifier.contains(found)
    if kind == "oldest":
        assert found == floor(NAMES[name]), "make test-oldest has not tried this lower bound"
    if kind == "locked":
        lock = (ROOT / "requirements.lock").read_text()
        locked = re.findall(rf"^{re.escape(name)}==(\S+)", lock, re.MULTILINE)
        assert str(found) in locked, "make test-locked has not tried this version"


def test_a_column_is_replaced_and_the_others_stay():
    old = {
        "latest, Python 3.12": {"passed": "9", "torch": "2.9"},
        "locked, Python 3.11": {"passed": "8", "torch": "2.8", "numpy": "2.1"},
    }
    page = write_page({**read_page(write_page(old)), "latest, Python 3.12": {"passed": "10"}})
    found = read_page(page)
    assert found["locked, Python 3.11"] == old["locked, Python 3.11"]
    assert found["latest, Python 3.12"] == {"passed": "10", "torch": "-", "numpy": "-"}
    assert read_page("") == {}


def test_extras_of_the_package_itself_are_not_asked_for():
    names = {one.name for one in dependencies()}
    assert {"torch", "transformers", "pytest"} <= names
    assert "pfedmoap" not in names
