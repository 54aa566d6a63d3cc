"""Locks between processes, with a note that names the process that holds each."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from pfedmoap.errors import RunError
from pfedmoap.storage.own_files import refuse_link
from pfedmoap.storage.strict_json import fields, integer, read_strict, text

WAIT_SECONDS = 30.0


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
        raise RunError(
            f"{file.parent} is in use by {_holder(note)}; waited {wait_seconds:g} s. Wait until it "
            "is done, or end it"
        ) from error
    try:
        since = datetime.now().astimezone().isoformat(timespec="seconds")
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
        note.write_text(json.dumps(holder) + "\n")
        yield
    finally:
        note.unlink(missing_ok=True)
        lock.release()


def _holder(note: Path) -> str:
    try:
        record = fields(read_strict(note), ("pid", "host", "since"))
        pid, host = integer(record["pid"], "pid"), text(record["host"], "host")
        return f"process {pid} on {host} since {text(record['since'], 'since')}"
    except (OSError, ValueError):
        return "another process"
