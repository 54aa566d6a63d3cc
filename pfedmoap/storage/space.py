"""Errors about a full disk, with the file, its size, and what can be deleted."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pfedmoap.errors import StorageError

_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}


@contextmanager
def room_for(path: Path, size: int) -> Iterator[None]:
    """Turn the system's errors about a full disk into a `StorageError` with a remedy.

    Args:
        path: The file that is being written.
        size: How large it becomes, in bytes.

    Raises:
        StorageError: There is no room for it.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None or error.errno not in _FULL:
            raise
        raise StorageError(
            f"no space to write {path}: it needs {size:,} bytes ({os.strerror(error.errno)}"
            f"{_free(path)}). Delete what you no longer need: finished runs, or the cache of image "
            "features (--features.cache, by default ~/.cache/pfedmoap), which is computed anew "
            "when it is missing. What was complete before is kept; commands that have --resume go "
            "on from it"
        ) from error


def _free(path: Path) -> str:
    folder = path.parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        return f"; {shutil.disk_usage(folder).free:,} are free there"
    except OSError:
        return ""
