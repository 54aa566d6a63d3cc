"""Configurations that come with the package, found by their names from any folder."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pfedmoap.config.suggestions import nearest
from pfedmoap.errors import ConfigError
from pfedmoap.storage.atomic_files import read_sections

PLACE = Path(__file__).parent / "configs"
_MARKS = {"attacks": "attack", "membership": "leakage", "space": "sweep"}
_MARKS |= {"tasks": "compare", "methods": "compare"}


@dataclass(frozen=True)
class Shipped:
    """A configuration of the package.

    Attributes:
        name: Such as ``compare-smoke.yaml`` or ``paper/table1.yaml``.
        path: Where it is.
    """

    name: str
    path: Path

    @property
    def about(self) -> str:
        """The first sentence of the comment that it begins with."""
        lines = self.path.read_text().splitlines()
        words = " ".join(line.removeprefix("#").strip() for line in _leading_comment(lines))
        return re.split(r"(?<=[.?])\s", words, maxsplit=1)[0]

    @property
    def command(self) -> str:
        """The command that it is for."""
        return command_of(read_sections(self.path))

    @property
    def usage(self) -> str:
        """How its copy is taken."""
        command = self.command
        return f"pfedmoap {command} {'--config ' * (command == 'train')}{self.path.name}"


def command_of(content: Mapping[str, Any]) -> str:
    """Name the command that takes a file of such sections.

    Example:
        >>> command_of({"space": {}}), command_of({"data": "digits"})
        ('sweep', 'train')
    """
    return next((command for mark, command in _MARKS.items() if mark in content), "train")


@cache
def shipped() -> Mapping[str, Shipped]:
    """All configurations of the package, by name, those of the paper last."""
    files = [*sorted(PLACE.glob("*.yaml")), *sorted(PLACE.glob("*/*.yaml"))]
    names = [file.relative_to(PLACE).as_posix() for file in files]
    return {name: Shipped(name, file) for name, file in zip(names, files, strict=True)}


def located(given: str | Path) -> Path:
    """Find the file that a command is given: one that is there, else one of the package.

    Args:
        given: A path; or the name of a configuration of the package, whose ending may be left out,
            and which may be written as the documentation does, ``eval/configs/demo.yaml``.

    Returns:
        Where it is; a path with folders that leads to no file is returned as it is.

    Raises:
        ConfigError: It is the mere name of a file, and there is none.
    """
    path = Path(given)
    if path.exists() and not path.is_dir():
        return path
    name = path.as_posix().removeprefix("eval/configs/")
    for spelt in (name, f"{name}.yaml"):
        if spelt in shipped():
            return shipped()[spelt].path
    if len(path.parts) > 1:
        return path
    near = nearest(name, shipped())
    raise ConfigError(
        f"cannot read the configuration {given}: there is no such file, and the package has none "
        f"of this name{'; nearest: ' * bool(near)}{', '.join(near)}; `pfedmoap configs` lists them"
    )


def _leading_comment(lines: list[str]) -> list[str]:
    end = next((at for at, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return lines[:end]
