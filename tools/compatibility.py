"""Run the suite on the newest, the oldest or the locked versions, and keep what was found.

Each run has an environment of its own (``.venv-latest`` and the like), made anew. Its column in
docs/compatibility.md is replaced; the others stay. ``tests/test_compatibility.py`` holds the page
to the ranges in pyproject.toml, and is not part of these runs.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "compatibility.md"
RESOLUTIONS = {"latest": "highest", "oldest": "lowest-direct"}
LOCKS = ("requirements.lock", "requirements-cuda.lock")
# Extras of the suite. Not Flower: it bounds packages of ours from both sides, and has one version.
TESTED = ("lm", "serve", "test")
OURS = "error:::(pfedmoap|privacy|eval|scripts|tests)\\b"
HEAD = """# Compatibility

Written by `make test-latest`, `make test-oldest` and `make test-locked` (`tools/compatibility.py`):
the versions with which the test suite was run, and what came of it. *Oldest* are the lower bounds
in `pyproject.toml`, *latest* the newest that its ranges admitted on that day, *locked* those of
`requirements.lock`. Add `PYTHON=python3.13` for another Python.

"""
Table = dict[str, dict[str, str]]  # cells by row, by column


def dependencies() -> list[Requirement]:
    """What the package, its suite and the extras that the suite tests require in pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    tested = (line for name in TESTED for line in extras[name])
    listed = [*project["dependencies"], *tested]
    found = [Requirement(line) for line in listed]
    return [one for one in found if one.name != project["name"]]


def read_page(text: str) -> Table:
    """Read the table of the page; none gives an empty one."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|") and not line.startswith("|--")
    ]
    if not rows:
        return {}
    columns = rows[0][1:]
    return {
        column: {row[0]: row[1 + place] for row in rows[1:]} for place, column in enumerate(columns)
    }


def write_page(table: Mapping[str, Mapping[str, str]]) -> str:
    """Lay the table out, columns in order of their names, rows as first seen."""
    columns = sorted(table)
    rows = list(dict.fromkeys(row for column in table.values() for row in column))
    lines = ["", *columns], ["---"] * (1 + len(columns))
    body = [[row, *(table[column].get(row, "-") for column in columns)] for row in rows]
    text = "\n".join("| " + " | ".join(cells) + " |" for cells in [*lines, *body])
    return HEAD + text.replace("| --- |", "|---|", 1) + "\n"


def make_environment(kind: str, python: str, folder: Path) -> None:
    """Make a virtual environment with the versions of one kind."""
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([python, "-m", "venv", str(folder)], check=True)
    if kind == "locked":
        install = ["--require-hashes", "--no-deps", *(f"--requirement={name}" for name in LOCKS)]
    else:
        install = [
            "--resolution",
            RESOLUTIONS[kind],
            "--requirement=pyproject.toml",
            "--extra=test",
        ]
    command = [sys.executable, "-m", "uv", "pip", "install", "--python", str(folder / "bin/python")]
    isolation = ["--no-build-isolation"] if kind == "locked" else []
    for options in (install, ["--no-deps", *isolation, "--editable", "."]):
        subprocess.run([*command, *options], cwd=ROOT, check=True)


def run_suite(kind: str, folder: Path, options: Sequence[str]) -> tuple[int, dict[str, str]]:
    """Run the suite in an environment.

    Returns:
        pytest's exit code, and the column for the page.
    """
    python = str(folder / "bin" / "python")
    # Other people's packages may warn where versions differ from the lock's; ours may not.
    filters = [] if kind == "locked" else ["-o", f"filterwarnings=default\n{OURS}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.xml"
        suite = [python, "-m", "pytest", "-n", "2", "--dist", "loadfile", f"--junitxml={report}"]
        without = [f"--ignore={ROOT / 'tests' / 'test_compatibility.py'}"]
        command = [*suite, *without, *filters, *options]
        ended = subprocess.run(command, cwd=ROOT, env=environment)
        counts = ElementTree.parse(report).getroot().find("testsuite")
    if counts is None:
        raise SystemExit("pytest wrote no report")
    total, failed, errors, skipped = (
        int(counts.get(name, "0")) for name in ("tests", "failures", "errors", "skipped")
    )
    ask = (
        "import json, platform; from importlib.metadata import distributions as d; "
        "print(json.dumps([platform.python_version(), "
        "{x.metadata['Name']: x.version for x in d()}]))"
    )
    answer = subprocess.run([python, "-c", ask], check=True, capture_output=True, text=True).stdout
    release, installed = json.loads(answer)
    versions = {canonicalize_name(name): version for name, version in installed.items()}
    column = {
        "run on": datetime.now(UTC).strftime("%Y-%m-%d"),
        "passed": str(total - failed - errors - skipped),
        "failed": str(failed + errors),
        "skipped": str(skipped),
        "Python": release,
    }
    wanted = sorted({canonicalize_name(one.name) for one in dependencies()})
    return ended.returncode, column | {name: versions[name] for name in wanted}


def main() -> None:
    """Parse, install, run, write."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("kind", choices=("locked", *RESOLUTIONS))
    parser.add_argument("--python", default=sys.executable, help="the Python to run with")
    parser.add_argument("--keep", action="store_true", help="use the environment as it is")
    parser.add_argument("options", nargs="*", help="for pytest, behind --")
    args = parser.parse_intermixed_args()  # options of pytest stand behind --
    folder = ROOT / f".venv-{args.kind}"
    if not args.keep:
        make_environment(args.kind, args.python, folder)
    code, column = run_suite(args.kind, folder, args.options)
    name = f"{args.kind}, Python {'.'.join(column['Python'].split('.')[:2])}"
    table = read_page(PAGE.read_text() if PAGE.exists() else "")
    PAGE.write_text(write_page({**table, name: column}))
    sys.exit(code)


if __name__ == "__main__":
    main()
