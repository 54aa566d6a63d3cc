"""What `make` installs: every package at one version, by its hash, from nowhere in particular."""

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.helpers.places import ROOT
from tools.compatibility import TESTED
from tools.lock import CUDA, FILES, split

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LINE = re.compile(r"([a-z0-9.-]+)==(\S+)( ; .+)? \\")


def locked(name: str) -> list[Requirement]:
    lines = (ROOT / name).read_text().splitlines()
    return [Requirement(line.rstrip(" \\")) for line in lines if LINE.match(line)]


@pytest.mark.parametrize("name", FILES)
def test_every_line_is_a_version_or_a_hash(name: str):
    head, *lines = (ROOT / name).read_text().splitlines()
    assert head.startswith("# Written by `make lock`")
    for line, before in zip(lines, [head, *lines], strict=False):
        if line.startswith(" "):
            assert re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", line), line
        else:
            assert LINE.fullmatch(line), line
            assert not before.endswith("\\"), before


@pytest.mark.parametrize("python", ["3.11.7", "3.12.1", "3.13.0"])
@pytest.mark.parametrize("system", ["linux", "darwin", "win32"])
def test_the_lock_has_one_version_within_the_range_of_each_requirement(python: str, system: str):
    """Also of those that only developers have; wide ranges stay in pyproject.toml."""
    where = {"python_full_version": python, "python_version": python[:4], "sys_platform": system}
    here = [
        one
        for one in locked("requirements.lock")
        if one.marker is None or one.marker.evaluate(where)
    ]
    versions = {canonicalize_name(one.name): str(one.specifier).removeprefix("==") for one in here}
    assert len(versions) == len(here)
    extras = PROJECT["optional-dependencies"]
    listed = (line for name in (*TESTED, "flower", "dev") for line in extras[name])
    for line in [*PROJECT["dependencies"], *listed]:
        wanted = Requirement(line)
        if wanted.name != PROJECT["name"]:
            found = versions[canonicalize_name(wanted.name)]
            assert wanted.specifier.contains(found), line
            assert not str(wanted.specifier).startswith("=="), line


def test_cuda_has_a_file_of_its_own():
    assert not [one.name for one in locked("requirements.lock") if CUDA.match(one.name)]
    assert all(CUDA.match(one.name) for one in locked("requirements-cuda.lock"))
    plain, cuda = "a==1 \\\n    --hash=x\n", "nvidia-b==2 ; m \\\n    --hash=y\n"
    parts = split(plain + cuda)
    assert parts["requirements-cuda.lock"].endswith(f"3.13.\n{cuda}")
    assert parts["requirements.lock"].endswith(f"3.13.\n{plain}")
