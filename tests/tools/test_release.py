"""What a release uploads: absolute links, addresses, one version throughout."""

import doctest
import re
import tomllib

import pytest

from tests.helpers.places import ROOT
from tools import release

PLACE = "https://example.org/group/pfedmoap"


def test_the_readme_has_no_relative_link_left():
    text = release.absolute((ROOT / "README.md").read_text(), PLACE, "9.9.9")
    targets = re.findall(r"\]\(([^)]+)\)", text)
    assert len(targets) > 10
    assert not [target for target in targets if not target.startswith("https://")]
    assert f"![One round]({PLACE}/raw/v9.9.9/docs/images/round.svg)" in text


def test_links_that_lead_elsewhere_stay():
    text = "[a](https://a.org) [b](#part)"
    assert release.absolute(text, PLACE, "1.0") == text
    assert not doctest.testmod(release).failed


def test_the_index_is_told_the_addresses():
    project = release.with_addresses((ROOT / "pyproject.toml").read_text(), PLACE)
    urls = tomllib.loads(project)["project"]["urls"]
    assert urls["Source"] == PLACE
    assert urls["Issues"] == f"{PLACE}/issues"
    assert "arxiv.org" in urls["Paper"]


@pytest.mark.parametrize(
    ("file", "wrong"),
    [
        ("CHANGELOG.md", "## Unreleased\n"),
        ("CITATION.cff", "version: 0.0.1\n"),
        ("pfedmoap/__init__.py", '__version__ = "0.0.1"\n'),
    ],
)
def test_a_version_that_is_not_everywhere_is_refused(file, wrong, tmp_path):
    (tmp_path / "pfedmoap").mkdir()
    (tmp_path / "CHANGELOG.md").write_text("## 1.2.3 - 2026-01-31\n")
    (tmp_path / "CITATION.cff").write_text("version: 1.2.3\n")
    (tmp_path / "pfedmoap" / "__init__.py").write_text('__version__ = "1.2.3"\n')
    assert release.faults(tmp_path, "1.2.3") == []
    (tmp_path / file).write_text(wrong)
    (fault,) = release.faults(tmp_path, "1.2.3")
    assert file in fault


def test_this_checkout_can_be_released():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert release.faults(ROOT, version) == []
