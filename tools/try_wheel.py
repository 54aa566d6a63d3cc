"""Install a wheel into an environment that holds what it declares and nothing else, and try it.

The environment has no checkout, no extras and no network: its packages are links to those that are
installed beside this program, as far as the wheel asks for them, and pip then finds everything the
wheel requires, or ends with an error. Commands run in an empty folder; whatever one of them takes
from the checkout, or from a package that is not declared, is missing there.
"""

import argparse
import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from email.parser import Parser
from importlib.metadata import Distribution, distribution
from pathlib import Path
from zipfile import ZipFile

from packaging.requirements import Requirement

HELPS = """
import contextlib, io
from eval.cli import COMMANDS, main
from eval.commands.bench import PARTS
nested = [["bench", part] for part in PARTS] + [["privacy", "plan"], ["privacy", "statement"]]
for words in [[name] for name in COMMANDS] + nested:
    shown, ended = io.StringIO(), "it went on"
    try:
        with contextlib.redirect_stdout(shown):
            main([*words, "--help"])
    except SystemExit as end:
        ended = end.code
    if ended or not shown.getvalue().startswith(f"usage: pfedmoap {' '.join(words)} "):
        raise SystemExit(f"{words} --help: {ended}: {shown.getvalue()[:200]}")
"""
"""Asks every command for its help, in one process."""


@dataclass(frozen=True)
class Try:
    """A command, and what has to be there when it has ended.

    Attributes:
        words: The command line after ``pfedmoap``.
        makes: A file.
    """

    words: str
    makes: str = "."


QUICK = "--rounds.rounds 2 --training.epochs 1 --features.cache cache --quiet"
TRIES = (
    Try("--version"),
    Try("configs compare-smoke --copy", "compare-smoke.yaml"),
    Try(f"train --config demo.yaml {QUICK} --out run", "run/per_client.csv"),
    Try("evaluate run"),
    Try("report run", "run/report.html"),
    Try("export run --client 3 --out model", "model/README.md"),
    Try("predict model image.png --csv"),
    Try("compare compare-smoke.yaml --out smoke --quiet", "smoke/table.md"),
    Try("sweep sweep-smoke.yaml --dry-run"),
    Try("privacy plan demo.yaml --privacy dpsgd --rounds.rounds 2"),
    Try("bench startup --repeats 1"),
    Try("bench images --images 4 --size 64"),
    Try("completion bash"),
)


def required(wheel: Path) -> list[Requirement]:
    """What a wheel requires, extras included."""
    with ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        lines = Parser().parsestr(archive.read(name).decode()).get_all("Requires-Dist", [])
    return [Requirement(line) for line in lines]


def installed_for(requirements: Iterable[Requirement]) -> Mapping[str, Distribution]:
    """The installed packages that requirements lead to, theirs included; without extras.

    Raises:
        PackageNotFoundError: One is not installed.
    """
    found: dict[str, Distribution] = {}
    ahead = [(requirement, "") for requirement in requirements]
    seen = set()
    while ahead:
        requirement, extra = ahead.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        for wanted in ("", *requirement.extras):
            if (key := (requirement.name, wanted)) not in seen:
                seen.add(key)
                found[requirement.name] = distribution(requirement.name)
                lines = found[requirement.name].requires or []
                ahead += [(Requirement(line), wanted) for line in lines]
    return found


def make_environment(wheel: Path, folder: Path) -> Path:
    """Make an environment of a wheel and what it declares; returns its Python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    base = {"base": str(folder), "platbase": str(folder)}
    site = Path(sysconfig.get_path("purelib", "venv", base))
    for package in installed_for(required(wheel)).values():
        tops = {file.parts[0] for file in package.files or () if file.parts[0] != ".."}
        for top in tops - {"__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(Path(str(package.locate_file(top))))
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--quiet", "--python", str(python), "install"]
    subprocess.run([*pip, "--no-index", str(wheel)], check=True)
    return python


def run_all(python: Path, work: Path, tries: Sequence[Try] = TRIES) -> None:
    """Run commands of an environment in an empty folder.

    Args:
        python: Of the environment.
        work: The folder.
        tries: What is run, one after the other.

    Raises:
        SystemExit: One ended with an error, or did not make its file.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    program = str(python.with_name("pfedmoap"))
    lines = [[str(python), "-c", HELPS], *([program, *each.words.split()] for each in tries)]
    for line, makes in zip(lines, [".", *(each.makes for each in tries)], strict=True):
        done = subprocess.run(
            line, cwd=work, env=environment, capture_output=True, text=True, check=False
        )
        words = " ".join(line[1:]) if line[0] == program else "every command's --help"
        if done.returncode:
            raise SystemExit(f"{words} ended with {done.returncode}: {done.stderr or done.stdout}")
        if not (work / makes).exists():
            raise SystemExit(f"{words} made no {makes}: {done.stdout}")
        print(f"ok  {words}", flush=True)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("wheel", type=Path, help="the file")
    wheel = parser.parse_args().wheel.resolve()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder) / "work"
        work.mkdir()
        python = make_environment(wheel, Path(folder) / "environment")
        draw(work / "image.png")
        run_all(python, work)


def draw(file: Path) -> None:
    """Draw a picture to classify."""
    from PIL import Image

    Image.linear_gradient("L").save(file)


if __name__ == "__main__":
    main()
