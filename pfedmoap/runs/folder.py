"""Determine whether a folder is a run, and which of its files a run may delete.

A folder is a run's if it has a valid manifest, and only an absent or empty one may become a run's.
Files are recognised by name *and* place, and nothing is done through a symbolic link.
"""

import re
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pfedmoap.errors import RunError
from pfedmoap.runs.checksums import check_content, damaged
from pfedmoap.runs.layout import PRIVATE
from pfedmoap.runs.manifest import (
    CLIENT,
    FILE,
    PREVIOUS,
    SHARD,
    STATE,
    Manifest,
    read_manifest,
)
from pfedmoap.storage.atomic_files import read_json, target_of_temporary
from pfedmoap.storage.locks import locked_folder
from pfedmoap.storage.own_files import (
    contents_in_words,
    holds_nothing,
    real_folders,
    refuse_link,
    remove_empty_folder,
    remove_files,
)

TOP_FILES = (
    "config.json",
    "task.json",
    "metrics.jsonl",
    FILE,
    PREVIOUS,
    "per_client.csv",
    "privacy.json",
    "generalisation.json",
)
FOLDERS = ("server", "clients", "ledgers", PRIVATE)


def claimed(run: Path) -> Manifest | None:
    """Check that a run may use a folder, before anything in it is changed.

    Args:
        run: The folder.

    Returns:
        The manifest of the run that is there; ``None`` where a new run may start.

    Raises:
        RunError: It holds something else, or a run without its manifest, or one with links.
    """
    if holds_nothing(run):
        return None
    refuse_links(run)
    found = read_manifest(run)
    if found is None:
        refuse_lost_manifest(run)
        raise RunError(
            f"{run} holds things that are no run of this package ({contents_in_words(run)}); "
            "nothing was touched. Choose a folder with --out that is absent or empty"
        )
    return found


@contextmanager
def held(run: Path) -> Iterator[None]:
    """Keep other processes from writing to a run, as long as the block lasts.

    Raises:
        RunError: Another process writes to it, and the message says which; or the folder holds
            something else, and nothing in it was changed.
    """
    claimed(run)
    with locked_folder(run):
        yield


def read_object(file: Path, checksum: str | None = None) -> dict[str, Any]:  # JSON
    """Read a JSON file of a run.

    Args:
        file: The file.
        checksum: What the manifest says of it; ``None`` where nothing is known.

    Raises:
        RunError: It is missing or damaged, or holds no object.
    """
    if checksum is not None and not file.exists():
        raise damaged(file, "it is missing, and the run's manifest knows it")
    found = read_json(file)
    if checksum is not None:
        check_content(file, file.read_bytes(), checksum)
    if not isinstance(found, dict):
        raise damaged(file, f"it holds {type(found).__name__}, expected an object")
    return found


def refuse_links(run: Path) -> None:
    """Refuse a run in which a file or folder of ours is a symbolic link.

    Raises:
        RunError: One is.
    """
    refuse_link(run / PRIVATE)
    for part in (run, run / PRIVATE):
        for name in (*FOLDERS, *TOP_FILES):
            refuse_link(part / name)
        clients = part / "clients"
        if clients.is_dir():
            for folder in sorted(clients.iterdir()):
                if CLIENT.fullmatch(folder.name):
                    refuse_link(folder)


def refuse_lost_manifest(run: Path) -> None:
    """Refuse a folder with the traces of a run's rounds, but without its manifest.

    Raises:
        RunError: It has such traces; the message says what is there.
    """
    states = sum(
        pattern.fullmatch(file.name) is not None
        for where, pattern in _state_folders(run)
        if (folder := run.joinpath(*where)).is_dir() and not folder.is_symlink()
        for file in folder.iterdir()
    )
    lines = run / "metrics.jsonl"
    rounds = len(lines.read_text(errors="replace").splitlines()) if lines.is_file() else 0
    config = (run / "config.json").is_file() and (run / "task.json").is_file()
    if states or (config and rounds):
        raise RunError(
            f"{run / FILE} is missing, but there are {states} state files and {rounds} lines of "
            "metrics: without it nobody knows which state is whole. Nothing was touched. Restore "
            "it from a copy, or start anew in another folder"
        )


def sweep(run: Path, named: AbstractSet[str]) -> None:
    """Delete our state files that no manifest names, and our temporary files.

    Args:
        run: The run; no other process may be writing to it.
        named: State files to keep, relative to an undivided run.
    """
    for part in ((), (PRIVATE,)):
        remove_files(run, part, lambda name: target_of_temporary(name) in TOP_FILES)
    for where, pattern in _state_folders(run):

        def unnamed(
            name: str, where: tuple[str, ...] = where, pattern: re.Pattern[str] = pattern
        ) -> bool:
            state = pattern.fullmatch(target_of_temporary(name) or name) is not None
            place = "/".join(part for part in (*where, name) if part != PRIVATE)
            return state and place not in named

        remove_files(run, where, unnamed)
        if CLIENT.fullmatch(where[-1]):
            remove_empty_folder(run, where)


def _state_folders(run: Path) -> list[tuple[tuple[str, ...], re.Pattern[str]]]:
    """Folders of state files, each with the names that these have there."""
    found: list[tuple[tuple[str, ...], re.Pattern[str]]] = [
        (("server",), STATE),
        (("server",), SHARD),
    ]
    for clients in (("clients",), (PRIVATE, "clients")):
        found.append((clients, SHARD))
        names = real_folders(run, clients, lambda name: CLIENT.fullmatch(name) is not None)
        found += [((*clients, name), STATE) for name in names]  # of earlier versions
    return found
