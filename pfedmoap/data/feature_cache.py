"""What the cache of image features holds, whether it is whole, and what can go."""

import json
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pfedmoap.data.feature_store import (
    ARRAY,
    DESCRIPTION,
    ENTRY,
    UNFINISHED,
    description_of,
    remove_abandoned,
    remove_entry,
)
from pfedmoap.storage.own_files import real_folders

DAY_SECONDS = 24 * 3600


@dataclass(frozen=True)
class Entry:
    """One stored array of features.

    Attributes:
        folder: Where it is.
        about: What it says of itself: data set, kind of features, augmented views.
        size_bytes: Of its files.
        made: When, in seconds since the epoch.
        used: When it was read last, likewise.
    """

    folder: Path
    about: dict[str, Any]  # JSON
    size_bytes: int
    made: float
    used: float

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.folder.name

    def problem(self) -> str | None:
        """Compare the array with its description: form, size, and a checksum over 64 rows.

        Returns:
            What is wrong; ``None`` where nothing is.
        """
        try:
            described = json.loads((self.folder / DESCRIPTION).read_text())
            array = np.load(self.folder / ARRAY, mmap_mode="r", allow_pickle=False)
            size = (self.folder / ARRAY).stat().st_size
            actual = description_of(described["key"], array, size)
            changed = [name for name in actual if actual[name] != described[name]]
        except OSError as error:
            return f"it cannot be read ({error.strerror or type(error).__name__})"
        except (ValueError, KeyError, TypeError, EOFError, IndexError):  # numpy would advise pickle
            return "it is no stored array with its description"
        if not str(described["key"]).startswith(self.name):
            changed.append("key")
        return f"{', '.join(changed)} differ from {DESCRIPTION}" if changed else None


@dataclass(frozen=True)
class Contents:
    """A cache's folder.

    Attributes:
        folder: The folder.
        entries: What this package stored there, the one used last first.
        unfinished: Folders that running processes fill, or that killed ones left.
        foreign: Names of what this package did not write, which is never touched.
        free_bytes: Free on that disk; ``None`` where it cannot be known.
    """

    folder: Path
    entries: tuple[Entry, ...]
    unfinished: tuple[str, ...]
    foreign: tuple[str, ...]
    free_bytes: int | None

    @property
    def size_bytes(self) -> int:
        """Of all entries."""
        return sum(entry.size_bytes for entry in self.entries)


def contents(folder: Path) -> Contents:
    """Look into a cache; an absent folder is an empty one.

    Raises:
        OSError: It cannot be read.
    """
    if not folder.is_dir():
        return Contents(folder, (), (), (), _free(folder))
    real = real_folders(folder, (), lambda _: True)
    found = [entry for name in real if (entry := _entry(folder / name)) is not None]
    unfinished = tuple(name for name in real if UNFINISHED.fullmatch(name))
    ours = {*unfinished, *(entry.name for entry in found)}
    return Contents(
        folder,
        tuple(sorted(found, key=lambda entry: (-entry.used, entry.name))),
        unfinished,
        tuple(sorted(path.name for path in folder.iterdir() if path.name not in ours)),
        _free(folder),
    )


def to_prune(
    held: Contents,
    *,
    unused_days: float | None = None,
    older_days: float | None = None,
    to_bytes: int | None = None,
    damaged: bool = False,
    now: float | None = None,
) -> tuple[Entry, ...]:
    """Choose entries to remove.

    Args:
        held: What the cache holds.
        unused_days: Those that nobody has read for so long.
        older_days: Those that were made so long ago.
        to_bytes: Those unused longest, until all others together have at most so many bytes.
        damaged: Those that are not whole.
        now: The time, in seconds since the epoch; ``None`` asks the clock.

    Returns:
        The entries.
    """
    now = time.time() if now is None else now
    chosen = {
        entry.name
        for entry in held.entries
        if (unused_days is not None and now - entry.used > unused_days * DAY_SECONDS)
        or (older_days is not None and now - entry.made > older_days * DAY_SECONDS)
        or (damaged and entry.problem() is not None)
    }
    kept_bytes = 0
    for entry in held.entries:  # the one used last first
        if entry.name not in chosen and to_bytes is not None:
            kept_bytes += entry.size_bytes
            if kept_bytes > to_bytes:
                chosen.add(entry.name)
                kept_bytes -= entry.size_bytes
    return tuple(entry for entry in held.entries if entry.name in chosen)


def prune(held: Contents, entries: Sequence[Entry]) -> tuple[Entry, ...]:
    """Remove entries, and what killed processes left; safe beside processes that use the cache.

    A process that has an entry open keeps it; one that looks for it computes it anew. An entry that
    was read since the cache was looked into is left.

    Args:
        held: What the cache held.
        entries: Some of it.

    Returns:
        What was removed.
    """
    removed = []
    for entry in entries:
        now = _entry(entry.folder)
        if now is None or now.used != entry.used:
            continue
        try:
            remove_entry(entry.folder)
        except OSError:  # another process is removing it, or the system keeps open files
            continue
        removed.append(entry)
    if held.folder.is_dir():
        remove_abandoned(held.folder)
    return tuple(removed)


def _entry(folder: Path) -> Entry | None:
    """Read an entry; ``None`` for whatever is not exactly one of ours."""
    if not ENTRY.fullmatch(folder.name) or folder.is_symlink():
        return None
    try:
        inside = {item.name: item for item in os.scandir(folder)}
        if not inside or {*inside} - {ARRAY, DESCRIPTION}:
            return None
        if any(not item.is_file(follow_symlinks=False) for item in inside.values()):
            return None
        states = [item.stat(follow_symlinks=False) for item in inside.values()]
        used = folder.stat().st_mtime
    except OSError:
        return None
    about: object = None
    try:
        about = json.loads((folder / DESCRIPTION).read_text()).get("about")
    except (OSError, ValueError, AttributeError):
        about = None
    return Entry(
        folder,
        about if isinstance(about, dict) else {},
        sum(state.st_size for state in states),
        max(state.st_mtime for state in states),
        used,
    )


def _free(folder: Path) -> int | None:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None
