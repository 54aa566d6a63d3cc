"""Delete and overwrite only files that this package wrote, never through a symbolic link."""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pfedmoap.errors import RunError
from pfedmoap.storage.atomic_files import target_of_temporary

_OPEN_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
BY_HANDLE = {
    os.open,
    os.unlink,
    os.stat,
    os.rmdir,
} <= os.supports_dir_fd and os.scandir in os.supports_fd
_SHOWN = 5
LOCK = ".run.lock"
HOLDER = f"{LOCK}.holder"


def remove_files(root: Path, below: tuple[str, ...], ours: Callable[[str], bool]) -> None:
    """Delete regular files directly in one folder, chosen by their names.

    If the system supports it, every folder below ``root`` is opened without following links and
    files are deleted relative to the open folder, so that a link created meanwhile has no effect.

    Args:
        root: A folder; it may be reached through links, since the user named it.
        below: Names of the folders that lead from it to the files; none of them may be a link.
        ours: Whether a name is one that this package gave.
    """
    with _real_folder(root, below) as folder:
        if folder is None:
            return
        with os.scandir(folder) as entries:
            names = [e.name for e in entries if e.is_file(follow_symlinks=False) and ours(e.name)]
        for name in names:
            if isinstance(folder, int):
                os.unlink(name, dir_fd=folder)
            else:
                (folder / name).unlink()


def remove_empty_folder(root: Path, below: tuple[str, ...]) -> None:
    """Delete a folder if it is empty, and no link; see `remove_files`."""
    with _real_folder(root, below[:-1]) as folder, suppress(OSError):
        if isinstance(folder, int):
            os.rmdir(below[-1], dir_fd=folder)
        elif folder is not None and not (folder / below[-1]).is_symlink():
            (folder / below[-1]).rmdir()


def real_folders(root: Path, below: tuple[str, ...], ours: Callable[[str], bool]) -> list[str]:
    """List folders directly in one folder, without links; see `remove_files`."""
    with _real_folder(root, below) as folder:
        if folder is None:
            return []
        with os.scandir(folder) as entries:
            found = [e.name for e in entries if e.is_dir(follow_symlinks=False) and ours(e.name)]
        return sorted(found)


def refuse_link(path: Path) -> None:
    """Refuse a path that is a symbolic link, before anything is written or deleted there.

    Raises:
        RunError: It is one.
    """
    if path.is_symlink():
        raise RunError(
            f"{path} is a symbolic link (to {os.readlink(path)}): files are neither written nor "
            "deleted through links. Replace it by a real file or folder, or choose another folder"
        )


def holds_nothing(folder: Path) -> bool:
    """Whether a folder is absent or empty, apart from temporary files of a killed process.

    Raises:
        RunError: The path is no folder.
    """
    if not folder.exists() and not folder.is_symlink():
        return True
    if not folder.is_dir():
        raise RunError(f"{folder} is no folder; choose another one")
    return all(
        path.name in (LOCK, HOLDER) or target_of_temporary(path.name) for path in folder.iterdir()
    )


def contents_in_words(folder: Path) -> str:
    """List a few of a folder's entries, for an error message."""
    names = sorted(path.name + ("/" if path.is_dir() else "") for path in folder.iterdir())
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def refuse_foreign_file(path: Path, ours: bytes | Callable[[Path], bool], what: str) -> None:
    """Refuse to overwrite a file that this package did not write.

    Args:
        path: The file; it may be absent or empty.
        ours: What each of our files of this kind begins with, or whether a regular file that is not
            empty is one of them.
        what: What we would write, for the message.

    Raises:
        RunError: Something else is there.
    """
    refuse_link(path)
    if not path.exists():
        return
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise RunError(f"{path} is no regular file; choose another name for {what}")
    if found.st_size and not (_begins(path, ours) if isinstance(ours, bytes) else ours(path)):
        raise RunError(
            f"{path} is there and is not {what} that this package wrote; it is left as it is. "
            "Move it away, or choose another name"
        )


def _begins(path: Path, beginning: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(beginning)) == beginning


@contextmanager
def _real_folder(root: Path, below: tuple[str, ...]) -> Iterator[int | Path | None]:
    """Open a folder below another without following links; ``None`` where there is no such."""
    if not BY_HANDLE:
        path = root
        for name in below:
            path = path / name
            if path.is_symlink():
                yield None
                return
        yield path if path.is_dir() else None
        return
    handle: int | None = None
    try:
        handle = os.open(root, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
        for name in below:
            inner = os.open(name, _OPEN_FOLDER, dir_fd=handle)
            os.close(handle)
            handle = inner
    except OSError:  # absent, no folder, or a link
        if handle is not None:
            os.close(handle)
        yield None
        return
    try:
        yield handle
    finally:
        os.close(handle)
