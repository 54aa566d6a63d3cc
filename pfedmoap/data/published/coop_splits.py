"""The few-shot community's divisions: JSON files of CoOp (arXiv 2109.01134), ``split_zhou_*``.

Each holds lists ``train``, ``val`` and ``test`` of ``[path, label, class name]``. The validation
images are not used, as in the papers that build on them. The labels are compared with the data
set's own annotation, image by image.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pfedmoap.data.published.files import ListedImage
from pfedmoap.errors import DataError

SITE = "https://github.com/KaiyangZhou/CoOp/blob/main/DATASETS.md"


def read_coop_split(
    path: Path, labels: Mapping[str, int], classes: int
) -> tuple[list[ListedImage], tuple[str, ...]]:
    """Read one division.

    Args:
        path: The JSON file.
        labels: The annotation's label of every image, by path.
        classes: Number of classes.

    Returns:
        Training and test images in the file's order, and the file's class names in label order,
        with spaces for underscores.

    Raises:
        DataError: The file is missing, damaged, lists unknown images, or contradicts the
            annotation or itself.
    """
    if not path.is_file():
        raise DataError(
            f"there is no file {path}. Fetch {path.name} by the link for this data set at {SITE} "
            f"and put it there, or drop data.split_file to use the data set's own division"
        )
    entries = _entries(path)
    images: list[ListedImage] = []
    names: dict[int, str] = {}
    for division, file, label, name in entries:
        if file not in labels:
            raise DataError(f"{path}: {division} lists {file}, which the data set does not have")
        if labels[file] != label:
            raise DataError(
                f"{path}: {file} has label {label} ({name}), but the data set's annotation says "
                f"{labels[file]}"
            )
        if names.setdefault(label, name) != name:
            raise DataError(f"{path}: label {label} is both {names[label]!r} and {name!r}")
        if division != "val":
            images.append(ListedImage(file, label, division == "test"))
    if sorted(names) != list(range(classes)):
        raise DataError(f"{path} has {len(names)} classes, expected {classes}")
    return images, tuple(names[label].replace("_", " ") for label in range(classes))


def _entries(path: Path) -> list[tuple[str, str, int, str]]:
    """All entries as (division, path, label, class name), checked for their form."""
    try:
        content = json.loads(path.read_text())
        return [
            (division, *_entry(entry))
            for division in ("train", "val", "test")
            for entry in _list(content, division)
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} is no division of CoOp's: expected lists train, val and test of "
            f"[path, label, class name] ({type(error).__name__}: {error}). Fetch it again: {SITE}"
        ) from error


def _list(content: Any, division: str) -> Sequence[Any]:  # JSON of any shape
    found = content[division]
    if not isinstance(found, list):
        raise TypeError(f"{division} is no list")
    return found


def _entry(entry: Any) -> tuple[str, int, str]:  # JSON of any shape
    file, label, name = entry
    if not (isinstance(file, str) and type(label) is int and isinstance(name, str)):
        raise TypeError(f"the entry {entry!r}")
    return file, label, name
