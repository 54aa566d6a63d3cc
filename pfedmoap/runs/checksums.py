"""Checksums of a run's files, in its manifest: SHA-256.

A checksum finds damage (a flipped bit, a lost half, a file from another place); it is no signature,
and does not protect from a change of a file together with the manifest.
"""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pfedmoap.errors import RunError
from pfedmoap.storage.digests import sha256

logger = logging.getLogger(__name__)

LINE_DIGITS = 16
_TIMES = ("train_seconds",)
"""What of a round's record differs between two runs of the same configuration: no checksum covers
it, so that equal runs have equal manifests."""

warned: set[Path] = set()


def sha256_of_line(record: Mapping[str, Any]) -> str:  # JSON of any shape
    """Checksum of a round's record without its times, 16 hexadecimal digits."""
    lasting = {name: value for name, value in record.items() if name not in _TIMES}
    return sha256(json.dumps(lasting, sort_keys=True).encode())[:LINE_DIGITS]


def check_content(file: Path, content: bytes, expected: str | None) -> None:
    """Compare a file's content with its checksum.

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
    """Make the error about a damaged file of a run, with the remedy."""
    return RunError(
        f"{file} is damaged: {why}. Restore it from a copy, or see what can be saved with "
        "`pfedmoap repair RUN`"
    )


def warn_without_checksums(run: Path) -> None:
    """Warn once a run if an earlier version wrote it without checksums."""
    if run.absolute() not in warned:
        warned.add(run.absolute())
        logger.warning(
            "%s was written by a version without checksums: damage to its files is not noticed. "
            "Continuing it with --resume adds them",
            run,
        )
