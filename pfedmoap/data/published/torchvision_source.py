"""Opening a torchvision data set: its download and checksums, with errors that say what to do."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pfedmoap.data.published.files import ListedImage
from pfedmoap.errors import DataError


@dataclass(frozen=True)
class Source:
    """Where torchvision gets a data set and puts it.

    Attributes:
        kind: Name of the class in ``torchvision.datasets``.
        folder: The folder it makes below the root.
        site: Where the data set is published.
    """

    kind: str
    folder: str
    site: str

    def remedy(self, root: Path) -> str:
        """What to do if the data are missing or damaged."""
        return (
            f"Fetch the data set again: remove {root / self.folder}, and on a machine with a "
            f'network use --data.download true, or run\n  python -c "from torchvision import '
            f"datasets; datasets.{self.kind}('{root}', download=True)\"\n"
            f"which takes it from {self.site}"
        )

    def open(self, root: Path, download: bool, **options: object) -> Any:
        """Open one division.

        Args:
            root: Parent of the data set's folder.
            download: Fetch the data if the folder is not there.
            **options: Further options of torchvision's class, such as ``split``.

        Returns:
            torchvision's data set; its class is one of many, hence ``Any``.

        Raises:
            DataError: The data are missing, incomplete or damaged, or cannot be fetched.
        """
        from torchvision import datasets  # takes seconds

        if not download and not (root / self.folder).is_dir():
            raise DataError(f"there is no folder {root / self.folder}. {self.remedy(root)}")
        try:
            return getattr(datasets, self.kind)(str(root), download=download, **options)
        except Exception as error:  # torchvision raises what json, pickle, urllib and re raise
            raise DataError(
                f"torchvision's {self.kind} cannot be read from {root / self.folder} "
                f"({type(error).__name__}: {error}). {self.remedy(root)}"
            ) from error

    def listed(self, opened: Any, base: Path, is_test: bool) -> list[ListedImage]:
        """List the files of an opened division, relative to ``base``.

        torchvision offers them only by decoding one after the other; the attributes read here
        have been the same since these classes were added.
        """
        files: Sequence[Path] = getattr(opened, "_images", None) or opened._image_files
        return [
            ListedImage(Path(file).relative_to(base).as_posix(), int(label), is_test)
            for file, label in zip(files, opened._labels, strict=True)
        ]


def check_class_names(source: Source, found: Sequence[str], names: Sequence[str]) -> None:
    """Compare the annotation's class names, in label order, with ours.

    Raises:
        DataError: They differ; names the first difference.
    """
    plain = [name.replace("_", " ").lower() for name in found]
    if plain != list(names):
        pairs = zip(plain, names, strict=False)
        first = next((f"{a!r} where {b!r} belongs" for a, b in pairs if a != b), "too few")
        raise DataError(
            f"the annotation of {source.kind} has {len(found)} classes, expected {len(names)} "
            f"({first}): the archive is incomplete or of another version"
        )
