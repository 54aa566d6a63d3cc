"""Locks between processes, with a note that names the process that holds each."""

import errno
import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from pfedmoap.errors import RunError
from pfedmoap.storage.own_files import HOLDER, LOCK, refuse_link
from pfedmoap.storage.strict_json import fields, integer, read_strict, text

if sys.platform != "win32":
    import fcntl

WAIT_SECONDS = 30.0
HELD = -1
"""In place of a folder's handle: another process has it."""


@contextmanager
def locked(file: Path, wait_seconds: float = WAIT_SECONDS) -> Iterator[None]:
    """Hold a lock that the operating system releases when the process ends, however it ends.

    A note beside it names the holder: process, host, and since when. It is for error messages
    only; the next holder overwrites what a killed process left.

    Args:
        file: The lock file; it and its folder are made where missing, and stay.
        wait_seconds: How long to wait for another holder.

    Raises:
        RunError: Another process holds it; the message names it if it is known.
    """
    note = file.with_name(file.name + ".holder")
    file.parent.mkdir(parents=True, exist_ok=True)
    refuse_link(file)
    refuse_link(note)
    lock = FileLock(file)
    try:
        lock.acquire(timeout=wait_seconds)
    except Timeout as error:
        raise _in_use(file.parent, note, f"; waited {wait_seconds:g} s") from error
    try:
        _write_note(note)
        yield
    finally:
        note.unlink(missing_ok=True)
        lock.release()


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Hold a folder for this process alone, as long as the block lasts; never waits.

    The folder's own handle is locked, so that no lock file stays in it. Where the system or the
    file system cannot do that, a lock file is used.

    Args:
        folder: The folder; made where missing, and removed again if it is empty at the end.

    Raises:
        RunError: Another process holds it; the message names it if it is known.
    """
    folder.mkdir(parents=True, exist_ok=True)
    note = folder / HOLDER
    refuse_link(note)
    handle = locked_handle(folder)
    if handle is HELD:
        raise _in_use(folder, note)
    try:
        if handle is None:
            with locked(folder / LOCK, wait_seconds=0.0):
                yield
        else:
            _write_note(note)
            yield
    finally:
        if handle is not None:
            note.unlink(missing_ok=True)
            with suppress(OSError):
                folder.rmdir()  # of a command that failed before it wrote anything
            os.close(handle)


def is_held(folder: Path) -> bool | None:
    """Whether a living process holds a folder; ``None`` where that cannot be known."""
    handle = locked_handle(folder)
    if handle is None or handle is HELD:
        return None if handle is None else True
    os.close(handle)
    return False


def locked_handle(folder: Path) -> int | None:
    """Open and lock a folder until its handle is closed or the process ends.

    Returns:
        The handle; `HELD` where another process has it; ``None`` where folders cannot be locked.
    """
    if sys.platform == "win32":
        return None
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        return HELD if error.errno in (errno.EWOULDBLOCK, errno.EAGAIN) else None
    return handle


def _write_note(note: Path) -> None:
    since = datetime.now().astimezone().isoformat(timespec="seconds")
    holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
    with suppress(OSError):  # it is for messages alone: a full disk has one of its own
        note.write_text(json.dumps(holder) + "\n")


def _in_use(folder: Path, note: Path, waited: str = "") -> RunError:
    return RunError(
        f"{folder} is in use by {_holder(note)}{waited}. Wait until it is done, or end it"
    )


def _holder(note: Path) -> str:
    try:
        record = fields(read_strict(note), ("pid", "host", "since"))
        pid, host = integer(record["pid"], "pid"), text(record["host"], "host")
        return f"process {pid} on {host} since {text(record['since'], 'since')}"
    except (OSError, ValueError):
        return "another process"
