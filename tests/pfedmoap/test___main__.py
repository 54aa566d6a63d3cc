"""``python -m pfedmoap`` is the command."""

import subprocess
import sys

import pfedmoap
import pfedmoap.__main__


def test_the_package_runs_as_the_command():
    words = [sys.executable, "-m", "pfedmoap", "--version"]
    shown = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert shown == f"pfedmoap {pfedmoap.__version__}\n"
    assert pfedmoap.__main__.main.__module__ == "eval.cli"
