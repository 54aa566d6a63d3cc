"""When `make` installs: on a change of the lock, and after whatever leaves .venv unusable."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.helpers.places import ROOT

FILES = ("Makefile", "pyproject.toml", "requirements.lock", "requirements-cuda.lock")
STAND_IN = """#!/bin/sh
echo "$@" >> {log}
case "$*" in
  "-m venv "*) mkdir -p "$3/bin" && touch "$3/pyvenv.cfg" && cp "$0" "$3/bin/python" ;;
  *" --require-hashes "*) [ ! -e {broken} ] ;;
esac
"""

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


class Checkout:
    """A folder with the Makefile and a stand-in for Python that notes what it is asked."""

    def __init__(self, folder: Path):
        self.folder, self.log, self.broken = folder, folder / "log", folder / "broken"
        for name in FILES:
            shutil.copy(ROOT / name, folder)
        python = folder / "python"
        python.write_text(STAND_IN.format(log=self.log, broken=self.broken))
        python.chmod(0o755)

    def install(self, *options: str) -> list[str]:
        """Run `make install`; returns "venv" and "lock" for what was made and installed."""
        self.log.write_text("")
        command = ["make", "install", f"PYTHON={self.folder / 'python'}", *options]
        theirs = {"VENV", "CPU", "TORCH_INDEX", "MAKEFLAGS", "MAKELEVEL"}  # of who runs the suite
        own = {name: value for name, value in os.environ.items() if name not in theirs}
        subprocess.run(command, cwd=self.folder, env=own, capture_output=True, check=False)
        lines = self.log.read_text().splitlines()
        return [
            what
            for line in lines
            for what, sign in (("venv", "-m venv"), ("lock", "--require-hashes"))
            if sign in line
        ]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_it_installs_once(checkout):
    assert checkout.install() == ["venv", "lock"]
    assert checkout.install() == []


@pytest.mark.parametrize("name", FILES[1:])
def test_a_change_of_the_lock_or_of_pyproject_brings_it_up_to_date(checkout, name):
    checkout.install()
    with (checkout.folder / name).open("a") as file:
        file.write("# changed\n")
    assert checkout.install() == ["lock"]
    assert checkout.install() == []


def test_what_was_left_half_made_is_made_anew(checkout):
    checkout.broken.touch()
    assert checkout.install() == ["venv", "lock"]
    checkout.broken.unlink()
    assert checkout.install() == ["venv", "lock"]


def test_an_update_that_fails_leaves_nothing_that_looks_installed(checkout):
    checkout.install()
    (checkout.folder / "pyproject.toml").write_text("# changed\n")
    checkout.broken.touch()
    checkout.install()
    checkout.broken.unlink()
    assert checkout.install() == ["venv", "lock"]


def test_a_python_that_no_longer_runs_is_made_anew(checkout):
    checkout.install()
    (checkout.folder / ".venv/bin/python").write_text("#!/nowhere/python\n")
    assert checkout.install() == ["venv", "lock"]


def test_a_moved_folder_is_made_anew(checkout, tmp_path_factory):
    checkout.install()
    moved = tmp_path_factory.mktemp("moved") / "checkout"
    shutil.copytree(checkout.folder, moved)
    assert Checkout(moved).install() == ["venv", "lock"]


def test_without_cuda_its_libraries_are_left_out(checkout):
    checkout.install("CPU=1")
    (line,) = [x for x in checkout.log.read_text().splitlines() if "--require-hashes" in x]
    assert "-r requirements.lock" in line
    assert "requirements-cuda.lock" not in line
    first = checkout.log.read_text().splitlines()
    (torch,) = [x for x in first if " torch==" in x]
    assert " torchvision==" in torch
    assert first.index(torch) < first.index(line)


def test_a_folder_that_is_no_environment_is_left_alone(checkout):
    mine = checkout.folder / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("ten years")
    assert checkout.install("VENV=mine") == []
    assert (mine / "thesis.tex").read_text() == "ten years"
