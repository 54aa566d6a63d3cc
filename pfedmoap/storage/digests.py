"""SHA-256 of contents and of files, as checksums and records write it."""

import hashlib
from pathlib import Path


def sha256(content: bytes) -> str:
    """Digest of some bytes, 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def sha256_of_file(file: Path) -> str:
    """Digest of a file, which is read piece by piece.

    Raises:
        OSError: It cannot be read.
    """
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
