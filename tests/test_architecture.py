"""Imports point one way, and each heavy library has one importer."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

from tests.helpers.places import ROOT

LAYERS = ("pfedmoap", "privacy", "eval", "scripts")
OWNERS = {
    "flwr": ("pfedmoap/engine/flower/", "eval/benchmarks/echoes.py"),  # which compares with it
    "ray": ("pfedmoap/engine/flower/",),
    "open_clip": ("pfedmoap/models/", "pfedmoap/pretraining/"),
    "faiss": ("pfedmoap/server/neighbours.py", "pfedmoap/server/sketch_index.py"),
    "opacus": ("privacy/",),
    "transformers": ("pfedmoap/models/language/",),
    "starlette": ("pfedmoap/serving/",),
    "onnx": ("pfedmoap/exported/",),
    "onnxruntime": ("pfedmoap/exported/",),
    "onnxscript": ("pfedmoap/exported/",),
    "uvicorn": ("pfedmoap/serving/",),
}
DOORS = {"pfedmoap/__init__.py": "eval.api.", "pfedmoap/__main__.py": "eval.cli"}
"""Files that offer names from above, and where those are; imported at first use."""
FILES_OF = {layer: sorted((ROOT / layer).rglob("*.py")) for layer in LAYERS}
FILES = [file for files in FILES_OF.values() for file in files]


def imported(file: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    return names


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_point_from_scripts_to_core(file):
    path = file.relative_to(ROOT).as_posix()
    layer = LAYERS.index(path.split("/")[0])
    for name in imported(file):
        top = name.split(".")[0]
        if top in LAYERS:
            door = path in DOORS and name.startswith(DOORS[path])
            assert door or LAYERS.index(top) <= layer, f"{path} imports {name}"
        for library, owners in OWNERS.items():
            if top == library:
                assert path.startswith(owners) or path.startswith("eval/benchmarks/"), path
    assert ast.get_docstring(ast.parse(file.read_text())), f"{path} does not say its reason"


def test_every_script_is_short():
    for file in (ROOT / "scripts").glob("*.py"):
        assert len(file.read_text().splitlines()) <= 60, file.name


def module_map() -> dict[str, tuple[list[str], str]]:
    """Entries of the map in docs/architecture.md: top folder or its part, with files and text."""
    page = (ROOT / "docs" / "architecture.md").read_text()
    block = re.search(r"^```\n(pfedmoap/.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert block, "docs/architecture.md has no module map"
    found: dict[str, tuple[list[str], str]] = {}
    top = entry = ""
    for line in block[1].splitlines():
        depth = len(line) - len(line.lstrip())
        if depth > 2:
            found[entry] = (found[entry][0], f"{found[entry][1]} {line.strip()}")
            continue
        names = re.match(r"((?:\w+(?:/|\.py)(?: |$))+) *(.*)", line.strip())
        assert names, line
        top = line.split()[0] if depth == 0 else top
        entry = line.split()[0] if depth == 0 else top + line.split()[0]
        found[entry] = ([top * (depth > 0) + name for name in names[1].split()], names[2])
    return found


def folders(place: Path) -> set[str]:
    """Direct subfolders that hold files of the repository, as ``path/``."""
    kept = (f for f in place.iterdir() if f.is_dir() and f.name not in ("__pycache__", "weights"))
    return {
        f"{folder.relative_to(ROOT)}/"
        for folder in kept
        if any(f.suffix != ".pyc" for f in folder.rglob("*.*"))
    }


def test_the_module_map_names_what_there_is():
    named = {name for names, _ in module_map().values() for name in names}
    there = {f"{top}/" for top in (*LAYERS, "tools", "tests")}
    for top in LAYERS[:-1]:
        files = {f"{top}/{file.name}" for file in (ROOT / top).glob("*.py")}
        there |= folders(ROOT / top) | files - {f"{top}/__init__.py"}
    assert named == there


@pytest.mark.parametrize(
    "room", sorted(folders(ROOT / "pfedmoap") | folders(ROOT / "eval") - {"eval/contract/"})
)
def test_the_module_map_names_the_folders_within(room):
    text = module_map()[room][1]
    within = {name.removeprefix(room) for name in folders(ROOT / room)}
    named = set(re.findall(r"\b\w+/", text))
    assert named == (set() if room == "pfedmoap/methods/" else within)


def test_every_folder_of_code_is_a_package_and_in_the_wheel():
    """A rule of .gitignore, or a forgotten line of pyproject.toml, can hide a room."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {file.parent for layer in ("pfedmoap", "privacy", "eval") for file in FILES_OF[layer]}
    for folder in folders:
        assert (folder / "__init__.py").exists(), folder
    assert {".".join(folder.relative_to(ROOT).parts) for folder in folders} == {
        name
        for name in declared["packages"]
        if name.split(".")[0] in ("pfedmoap", "privacy", "eval")
    }
