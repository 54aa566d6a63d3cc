"""Imports point one way, and each heavy library has one importer."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = ("pfedmoap", "privacy", "eval", "scripts")
OWNERS = {
    "open_clip": ("pfedmoap/models/", "pfedmoap/pretraining/"),
    "faiss": ("pfedmoap/server/expert_pool.py",),
    "opacus": ("privacy/",),
    "transformers": ("pfedmoap/models/language/",),
}
FILES = [file for layer in LAYERS for file in sorted((ROOT / layer).rglob("*.py"))]


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
            assert LAYERS.index(top) <= layer, f"{path} imports {name}"
        for library, owners in OWNERS.items():
            if top == library:
                assert path.startswith(owners) or path.startswith("scripts/bench"), path
    assert ast.get_docstring(ast.parse(file.read_text())), f"{path} does not say its reason"


def test_every_script_is_short():
    for file in (ROOT / "scripts").glob("*.py"):
        if not file.name.startswith("bench"):
            assert len(file.read_text().splitlines()) <= 60, file.name
