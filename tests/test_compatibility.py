"""docs/compatibility.md, the page of versions that the suite ran with, is still true.

`tools/compatibility.py`, which writes the page, runs the suite without this file: after a change
of pyproject.toml the page is out of date until that run has ended.
"""

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tools.compatibility import PAGE, dependencies, read_page

TABLE = read_page(PAGE.read_text())
NAMES = {canonicalize_name(one.name): one for one in dependencies()}


def floor(requirement: Requirement) -> Version:
    (bound,) = [one for one in requirement.specifier if one.operator == ">="]
    return Version(bound.version)


def test_both_ends_were_tried():
    assert {column.partition(",")[0] for column in TABLE} >= {"latest", "oldest"}


@pytest.mark.parametrize("column", sorted(TABLE))
def test_the_suite_was_green_and_every_dependency_is_named(column):
    cells = TABLE[column]
    assert cells["failed"] == "0"
    assert int(cells["passed"]) > 2000
    assert set(NAMES) <= set(cells)


@pytest.mark.parametrize("column", sorted(TABLE))
@pytest.mark.parametrize("name", NAMES)
def test_versions_are_those_that_the_ranges_admit(column, name):
    found = Version(TABLE[column][name])
    assert NAMES[name].specifier.contains(found)
    if column.startswith("oldest"):
        assert found == floor(NAMES[name]), "make test-oldest has not tried this lower bound"
