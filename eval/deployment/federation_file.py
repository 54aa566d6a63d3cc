"""The file that makes a folder a federation: what is trained, on which classes, how patiently."""

import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pfedmoap.errors import RunError
from pfedmoap.storage.atomic_files import write_json
from pfedmoap.storage.strict_json import fields, integer, items, number, read_strict, text

FILE = "federation.json"
RUN = "run"
"""Folder of the run inside the federation's."""


@dataclass(frozen=True)
class FederationFile:
    """What a server's operator decided.

    Attributes:
        federation: The federation's id.
        sections: The configuration, all of it.
        class_names: Names of all classes.
        templates: Hand-written prompts, each with one ``{}``.
        min_clients: Fewest sites whose updates complete a round.
        timeout_seconds: How long to wait for the answers of a round.
        wait_seconds: How long to wait for so many sites to be there.
    """

    federation: str
    sections: Mapping[str, Mapping[str, Any]]
    class_names: tuple[str, ...]
    templates: tuple[str, ...]
    min_clients: int
    timeout_seconds: float
    wait_seconds: float

    def write(self, folder: Path) -> None:
        """Write it into the federation's folder."""
        write_json(folder / FILE, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> "FederationFile":
        """Read it from a federation's folder.

        Raises:
            RunError: There is none, or it is damaged.
        """
        file = folder / FILE
        try:
            found = fields(read_strict(file), tuple(cls.__dataclass_fields__))
            return cls(
                text(found["federation"], "federation"),
                found["sections"],
                tuple(text(name, "a class") for name in items(found["class_names"], "classes")),
                tuple(text(name, "a template") for name in items(found["templates"], "templates")),
                integer(found["min_clients"], "min_clients", 1),
                number(found["timeout_seconds"], "timeout_seconds"),
                number(found["wait_seconds"], "wait_seconds"),
            )
        except FileNotFoundError as error:
            raise RunError(f"{folder} is no federation: start one with pfedmoap serve") from error
        except ValueError as error:
            raise RunError(f"{file} is damaged: {error}; restore it from a copy") from error


def new_id() -> str:
    """Make a federation's id."""
    return secrets.token_hex(8)


def names_in(given: str) -> tuple[str, ...]:
    """Read names that are given on a command line.

    Args:
        given: The names with commas between, or a file that has one a line.
    """
    place = Path(given).expanduser()
    text = place.read_text() if given and place.is_file() else given.replace(",", "\n")
    return tuple(line.strip() for line in text.splitlines() if line.strip())
