"""The files that a data set is made of."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class DataFile:
    """One file of a data set.

    Attributes:
        name: Path below the data set's folder.
        size_bytes: Its length.
        digest: SHA-256 of what was read of it, hexadecimal; behind ``ends-`` where that was only
            its two ends.
    """

    name: str
    size_bytes: int
    digest: str


@dataclass(frozen=True)
class Inventory:
    """The files of a data set, one for each image.

    Attributes:
        folder: What their names are relative to.
        files: In the order of the images.
    """

    folder: Path
    files: tuple[DataFile, ...]

    def of(self, indices: Iterable[int]) -> "Inventory":
        """The same for some of the images."""
        return Inventory(self.folder, tuple(self.files[int(i)] for i in indices))
