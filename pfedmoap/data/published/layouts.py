"""Reading the annotations of sets that are fetched by hand, with errors that say what to do."""

from collections.abc import Sequence
from pathlib import Path

from pfedmoap.data.images import has_image_suffix
from pfedmoap.errors import DataError

COOP = "https://github.com/KaiyangZhou/CoOp/blob/main/DATASETS.md"


def remedy_for(folder: Path, site: str, inside: str) -> str:
    """Say how to get a set, and what its folder must hold.

    Args:
        folder: The set's folder.
        site: Where it is published.
        inside: Names of what has to be in the folder.
    """
    return f"Fetch it from {site} as {COOP} lays it out: {folder} holds {inside}"


def lines_of(file: Path, remedy: str) -> list[str]:
    """Read the lines of an annotation, without those that are empty.

    Raises:
        DataError: It is missing, empty, or no text.
    """
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError as error:
        raise DataError(f"there is no file {file}. {remedy}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read ({error}). {remedy}") from error
    if not any(lines):
        raise DataError(f"{file} is empty. {remedy}")
    return [line for line in lines if line]


def expect_classes(found: Sequence[str], count: int, file: Path, remedy: str) -> None:
    """Refuse an annotation with another number of classes, or with one class twice.

    Raises:
        DataError: It has.
    """
    if len(found) != count or len(set(found)) != count:
        raise DataError(
            f"{file} names {len(set(found))} classes in {len(found)} lines, expected {count}: it "
            f"is incomplete or of another version. {remedy}"
        )


def images_in(folder: Path, remedy: str) -> list[str]:
    """Names of a folder's images, sorted.

    Raises:
        DataError: There is no such folder.
    """
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}. {remedy}")
    return sorted(
        path.name
        for path in folder.iterdir()
        if has_image_suffix(path.name) and not path.name.startswith(".")
    )


def label_in(labels: dict[str, int], name: str, file: Path, remedy: str) -> int:
    """Look a class up that an annotation names.

    Raises:
        DataError: There is no such class.
    """
    if name not in labels:
        raise DataError(f"{file} names a class {name!r} that there is not. {remedy}")
    return labels[name]
