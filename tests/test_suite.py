"""The suite itself: which warnings end it, and what it does where there is no GPU."""

import os
import subprocess
import sys
from pathlib import Path

from tests.helpers.places import ROOT


def suite(folder: Path, test: str, *options: str) -> str:
    """Run one small file under this project's settings."""
    (folder / "test_small.py").write_text(test)
    command = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml")]
    where = ["--rootdir", str(folder), "-p", "no:cacheprovider", str(folder / "test_small.py")]
    path = os.pathsep.join([str(folder), *sys.path])
    ended = subprocess.run(
        [*command, *where, *options],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        cwd=folder,
    )
    return ended.stdout + ended.stderr


def test_a_plugin_that_warns_of_parallel_tests_does_not_end_the_suite(tmp_path):
    """As pytest-benchmark up to 5.2 does where it is installed and tests run in parallel."""
    (tmp_path / "pytest_standin.py").write_text(
        "import warnings\n"
        "def pytest_configure(config):\n"
        "    warnings.warn(UserWarning('Benchmarks are disabled because xdist is active'))\n"
    )
    said = suite(tmp_path, "def test(): pass\n", "-p", "pytest_standin", "-n", "1")
    assert "1 passed" in said, said


def test_warnings_of_code_are_errors(tmp_path):
    said = suite(tmp_path, "import warnings\ndef test(): warnings.warn('old')\n")
    assert "1 failed" in said, said


def test_a_gpu_test_is_skipped_without_cuda_and_runs_with_it(tmp_path):
    (tmp_path / "conftest.py").write_text(
        "import torch\n"
        "from tests.helpers import models\n"
        "from tests.helpers.models import device\n"
        "def pytest_runtest_setup(item):\n"
        "    torch.cuda.is_available = lambda: item.name.startswith('test_with_cuda')\n"
        "    models.pytest_runtest_setup(item)\n"
    )
    test = "import pytest\n" + "".join(
        f"def test_{cuda}_numbers(device): pass\n@pytest.mark.gpu\ndef test_{cuda}_kernel(): pass\n"
        for cuda in ("with_cuda", "without_cuda")
    )
    said = suite(tmp_path, test, "-v")
    for name, ended in {
        "with_cuda_numbers[cpu]": "PASSED",
        "with_cuda_numbers[cuda]": "PASSED",
        "with_cuda_kernel": "PASSED",
        "without_cuda_numbers[cpu]": "PASSED",
        "without_cuda_numbers[cuda]": "SKIPPED",
        "without_cuda_kernel": "SKIPPED",
    }.items():
        assert f"::test_{name} {ended}" in said, said
