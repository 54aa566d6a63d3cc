"""Arrays on disk that appear atomically, also with concurrent writers."""

import errno
import json
import logging
import os
import re
import time
import uuid
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pfedmoap.errors import DataError, StorageError
from pfedmoap.storage.atomic_files import make_folder
from pfedmoap.storage.locks import is_held, locked_handle
from pfedmoap.storage.own_files import contents_in_words, real_folders, refuse_link, remove_files
from pfedmoap.storage.space import room_for

logger = logging.getLogger(__name__)

FloatArray = NDArray[np.float32]
MappedArray = np.memmap[tuple[int, ...], np.dtype[np.float32]]

ARRAY, DESCRIPTION = "features.npy", "entry.json"
UNFINISHED = re.compile(r"unfinished-[0-9a-f]{32}")
SAMPLED_ROWS = 64
ENTRY = re.compile(r"[0-9a-f]{32}")
ABANDONED_SECONDS = 7 * 24 * 3600
STARTING_SECONDS = 60
PUBLISH_ATTEMPTS = 10


def read_entry(folder: Path, key: str, rows: int) -> FloatArray | None:
    """Open one stored array.

    An entry is a folder with the array and a description of it. The file's size and a checksum
    over up to 64 rows, evenly spaced, are compared with the description: that finds truncated
    files and lost pages, not every flipped bit.

    Args:
        folder: The entry.
        key: Identity that the description must have.
        rows: Length that the array must have.

    Returns:
        The array, memory-mapped and read-only, or ``None`` if there is no such entry, or it is
        damaged, which is logged.
    """
    try:
        if not folder.exists():
            return None
    except OSError as error:
        raise _unusable(folder.parent, error) from error
    try:
        described = json.loads((folder / DESCRIPTION).read_text())
        array: FloatArray = np.load(folder / ARRAY, mmap_mode="r", allow_pickle=False)
        actual = description_of(key, array, (folder / ARRAY).stat().st_size)
        expected = {name: described[name] for name in actual}
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        logger.warning("stored features %s are damaged and computed again: %s", folder, error)
        return None
    if actual != expected or len(array) != rows:
        changed = [name for name in actual if actual[name] != expected[name]] or ["rows"]
        logger.warning(
            "stored features %s are damaged and computed again: %s differ from %s",
            folder,
            ", ".join(changed),
            DESCRIPTION,
        )
        return None
    _warn_where_others_can_read(folder)
    with suppress(OSError):  # of a cache that cannot be written; `pfedmoap cache` shows the time
        os.utime(folder)
    return array


class EntryWriter:
    """Fills an entry in a folder of its own, and renames that folder into place when it is done.

    The rename is one step for array and description together, so a reader sees both or neither.
    Of two runs that write the same entry at the same time, the first to finish wins and the other
    uses its result. Leaving the ``with`` block without `publish` leaves nothing behind; what a
    killed process leaves is removed by a later run: at once, or after a week where the file system
    cannot tell whether it is alive.

    Args:
        folder: Where the entry will be.
        key: Its identity.
        leading: Leading sizes of the array, (images, views); the rest is known with the first
            features.
        about: What a person may want to know of the entry; stored beside it.

    Attributes:
        unfinished: The folder of its own.
    """

    def __init__(
        self, folder: Path, key: str, leading: tuple[int, int], about: Mapping[str, object]
    ) -> None:
        self._folder, self._key, self._leading, self._about = folder, key, leading, about
        self.unfinished = folder.with_name(f"unfinished-{uuid.uuid4().hex}")
        self._handle: int | None = None  # shows other processes that this one is alive
        self._array: MappedArray | None = None
        self._written = np.zeros(leading, dtype=np.bool_)

    def __enter__(self) -> Self:
        try:
            make_folder(self._folder.parent, 0o700)
            remove_abandoned(self._folder.parent)
            self.unfinished.mkdir(mode=0o700)  # features are encoded images: for their owner alone
        except OSError as error:
            raise _unusable(self._folder.parent, error) from error
        self._handle = locked_handle(self.unfinished)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._array = None
        if self._handle is not None:
            os.close(self._handle)
        _remove(self.unfinished)

    def write(
        self, images: NDArray[np.int64], views: NDArray[np.int64], values: FloatArray
    ) -> None:
        """Store features; places that are never written hold NaN.

        Args:
            images: Image of each row, (b,).
            views: View of each row, (b,).
            values: Features, (b, ...).

        Raises:
            DataError: If the features have another shape than those before.
        """
        if self._array is None:
            self._array = _allocate(self.unfinished / ARRAY, (*self._leading, *values.shape[1:]))
        if values.shape[1:] != self._array.shape[2:]:
            raise DataError(
                f"features have shape {values.shape[1:]}, expected {self._array.shape[2:]}"
            )
        self._array[images, views] = values
        self._written[images, views] = True

    def publish(self) -> FloatArray:
        """Put the finished entry in its place.

        Returns:
            The array, memory-mapped and read-only. It stays valid whatever other runs do to the
            folder afterwards.

        Raises:
            DataError: If nothing was written, or other runs keep getting in the way.
        """
        if self._array is None:
            raise DataError(f"nothing was written to the features {self._folder}")
        self._array[~self._written] = np.nan
        self._array.flush()
        size = (self.unfinished / ARRAY).stat().st_size
        described = {**description_of(self._key, self._array, size), "about": dict(self._about)}
        with open(self.unfinished / DESCRIPTION, "x", opener=_for_owner) as file:
            file.write(json.dumps(described, indent=2) + "\n")
        self._array = None
        finished: FloatArray = np.load(self.unfinished / ARRAY, mmap_mode="r")
        for _ in range(PUBLISH_ATTEMPTS):
            try:
                self.unfinished.rename(self._folder)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
            else:
                return finished
            theirs = read_entry(self._folder, self._key, len(finished))
            if theirs is not None:
                return theirs
            _set_aside(self._folder)
        raise DataError(f"the features {self._folder} could not be put in place: run again")


def cache_folder(path: str) -> Path:
    """Find the folder of the cache that an option names.

    Raises:
        StorageError: It is in a home folder, and there is none.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise StorageError(
            f"{path} cannot be found ({error}); name a folder with --features.cache"
        ) from error


def _unusable(cache: Path, error: OSError) -> StorageError:
    return StorageError(
        f"the cache of image features {cache} cannot be used ({error.strerror}); name a folder "
        "that can be written with --features.cache"
    )


def description_of(key: str, array: FloatArray, size_bytes: int) -> dict[str, object]:
    """What an entry's description must say of its array, with a checksum over some rows."""
    rows = np.unique(np.linspace(0, len(array) - 1, SAMPLED_ROWS).astype(np.int64))
    return {
        "format": 1,
        "key": key,
        "shape": list(array.shape),
        "dtype": str(array.dtype),
        "size_bytes": size_bytes,
        "sample_crc32": zlib.crc32(np.ascontiguousarray(array[rows]).tobytes()),
    }


def _allocate(path: Path, shape: tuple[int, ...]) -> MappedArray:
    """Create the file with its disk space reserved: a full disk would kill a mapped write."""
    open(path, "x", opener=_for_owner).close()  # numpy would make it readable by all users
    array: MappedArray = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    if hasattr(os, "posix_fallocate"):
        size = path.stat().st_size
        with room_for(path, size), path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, size)
    return array


def _for_owner(path: str, flags: int) -> int:
    """Open a file; one that is made is for its owner alone."""
    return os.open(path, flags, 0o600)


def _warn_where_others_can_read(folder: Path) -> None:
    """Warn that other users can read an entry: by an earlier version, or by choice."""
    if os.name != "nt" and folder.stat().st_mode & 0o077:
        logger.warning(
            "stored features, which are encoded images, can be read by other users of this machine "
            "(%s). Close them with: chmod -R go= %s",
            folder,
            folder.parent,
        )


def _set_aside(folder: Path) -> None:
    """Remove a damaged entry in one step, since another run may be doing the same.

    Raises:
        RunError: The entry is a link.
        DataError: There is more in it than an entry has.
    """
    refuse_link(folder)
    if folder.is_dir() and {path.name for path in folder.iterdir()} - {ARRAY, DESCRIPTION}:
        raise DataError(
            f"{folder} holds more than stored features ({contents_in_words(folder)}); it is left "
            "as it is. Choose another folder with --features.cache"
        )
    with suppress(FileNotFoundError):
        remove_entry(folder)


def remove_entry(folder: Path) -> None:
    """Remove an entry's own two files, and its folder where nothing else is in it.

    Its folder is renamed first, so that nobody finds a half of it. Who has opened it keeps it.

    Raises:
        OSError: It cannot be renamed.
    """
    rubbish = folder.with_name(f"unfinished-{uuid.uuid4().hex}")
    folder.rename(rubbish)
    _remove(rubbish)


def remove_abandoned(parent: Path) -> None:
    """Remove what killed processes left, recognised by its exact name; see `remove_entry`.

    What a living process holds stays, however old; a week tells where folders cannot be locked.
    """
    for name in real_folders(parent, (), lambda name: UNFINISHED.fullmatch(name) is not None):
        with suppress(FileNotFoundError):
            age = time.time() - (parent / name).stat().st_mtime
            held = is_held(parent / name)
            if not held and age > (ABANDONED_SECONDS if held is None else STARTING_SECONDS):
                _remove(parent / name)


def _remove(folder: Path) -> None:
    """Remove an entry's own two files, and its folder where nothing else is in it."""
    with suppress(OSError):
        remove_files(folder.parent, (folder.name,), lambda name: name in (ARRAY, DESCRIPTION))
        folder.rmdir()
