"""What shows that a file of a run is the one that was written: SHA-256, in the manifest.

A checksum finds damage (a flipped bit, a lost half, a file from another place); it is no signature,
and does not protect from a change of a file together with the manifest.
"""

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pfedmoap.errors import RunError

logger = logging.getLogger(__name__)

LINE_DIGITS = 16
_TIMES = ("train_seconds",)
"""What of a round's record differs between two runs of the same configuration: no checksum covers
it, so that equal runs have equal manifests."""

warned: set[Path] = set()


def sha256(content: bytes) -> str:
    """Checksum of a whole file, 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def sha256_of_line(record: Mapping[str, Any]) -> str:  # JSON of any shape
    """Checksum of a round's record without its times, 16 hexadecimal digits."""
    lasting = {name: value for name, value in record.items() if name not in _TIMES}
    return sha256(json.dumps(lasting, sort_keys=True).encode())[:LINE_DIGITS]


def check_content(file: Path, content: bytes, expected: str | None) -> None:
    """Hold a file's content to its checksum.

    Args:
        file: The file, for the message.
        content: What it holds.
        expected: Its checksum; ``None`` where none is known.

    Raises:
        RunError: It is another one.
    """
    if expected is not None and sha256(content) != expected:
        raise damaged(file, "its checksum is not the one in the run's manifest")


def damaged(file: Path, why: str) -> RunError:
    """Say that a file of a run is damaged, and what to do."""
    return RunError(
        f"{file} is damaged: {why}. Restore it from a copy, or see what can be saved with "
        "`pfedmoap repair RUN`"
    )


def warn_without_checksums(run: Path) -> None:
    """Say once for each run that an earlier version wrote it, so that damage is not noticed."""
    if run.absolute() not in warned:
        warned.add(run.absolute())
        logger.warning(
            "%s was written by a version without checksums: damage to its files is not noticed. "
            "Continuing it with --resume true adds them",
            run,
        )
