"""Where the image files of a folder tree lie, and which layout of the tree that makes."""

import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Literal

from pfedmoap.data.image_files import ImageFile
from pfedmoap.data.images import SUFFIXES
from pfedmoap.errors import DataError

logger = logging.getLogger(__name__)

DEEPEST = 4
UNUSED_DIVISIONS = frozenset(("val", "valid", "validation"))


def scan(
    root: Path, layout: Literal["auto", "classes", "domains"], *, persons: bool = False
) -> list[ImageFile]:
    """Find the image files below a folder.

    Hidden files and folders, and files without an image's suffix, are passed over.

    Args:
        root: The folder.
        layout: ``classes`` for ``root/class/*`` or ``root/{train,test}/class/*``, ``domains`` for
            ``root/domain/class/*``, or ``auto``.
        persons: Whether each class folder holds a folder for each person, and these the images.

    Returns:
        The files in sorted order of their paths, the same on every machine. Images that lie
        elsewhere in the tree are left out with a warning.

    Raises:
        DataError: If there is no image, or the tree does not have the layout.
    """
    if not root.is_dir():
        raise DataError(f"{root} is not a folder")
    paths = sorted(_walk(root), key=lambda path: path.parts)
    places = {path: _without_person(path) if persons else path for path in paths}
    shallow = [path for path, place in places.items() if len(place.parts) == 2]
    deep = [path for path, place in places.items() if len(place.parts) == 3]
    below = "/person" if persons else ""
    if not shallow and not deep:
        raise DataError(
            f"{root} holds no images as class{below}/image or domain/class{below}/image "
            f"({len(paths)} images elsewhere below it)"
        )
    divided = {"train", "test"} <= {path.parts[0].lower() for path in deep}
    if layout == "auto" and shallow and deep:
        raise DataError(
            f"{root} mixes {len(shallow)} images as class{below}/image (such as {shallow[0]}) with "
            f"{len(deep)} as folder/class{below}/image (such as {deep[0]}): choose the layout, "
            f"classes or domains, or tidy the tree"
        )
    if layout != "domains" and divided and not shallow:
        files = _divided(root, deep)
    elif layout == "domains" or (layout == "auto" and deep):
        files = [ImageFile(str(p), class_folder=p.parts[1], domain=p.parts[0]) for p in deep]
    else:
        files = [ImageFile(str(p), class_folder=p.parts[0]) for p in shallow]
    _check_layout(root, files)
    kept = {file.path for file in files}
    _report_misplaced(root, [path for path in paths if str(path) not in kept])
    if persons:
        files = [replace(file, group=PurePosixPath(file.path).parts[-2]) for file in files]
    return files


def _without_person(path: PurePosixPath) -> PurePosixPath:
    """The place that a file would have without its person's folder."""
    return PurePosixPath(*path.parts[:-2], path.name)


def _walk(root: Path) -> Iterator[PurePosixPath]:
    for folder, subfolders, names in os.walk(root, followlinks=True):
        place = Path(folder).relative_to(root)
        visible = [name for name in subfolders if not name.startswith((".", "__"))]
        subfolders[:] = visible if len(place.parts) < DEEPEST else []
        for name in names:
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES:
                yield PurePosixPath(place.as_posix()) / name


def _divided(root: Path, paths: Sequence[PurePosixPath]) -> list[ImageFile]:
    divisions = Counter(path.parts[0] for path in paths)
    for folder, count in divisions.items():
        if folder.lower() in UNUSED_DIVISIONS:
            logger.warning("%s: %d images of %s/ are not used", root, count, folder)
        elif folder.lower() not in ("train", "test"):
            raise DataError(
                f"{root} has a folder {folder!r} beside train and test: move it away, or choose "
                f"the layout domains"
            )
    return [
        ImageFile(str(path), class_folder=path.parts[1], division=path.parts[0].lower())
        for path in paths
        if path.parts[0].lower() not in UNUSED_DIVISIONS
    ]


def _check_layout(root: Path, files: Sequence[ImageFile]) -> None:
    if not files:
        raise DataError(f"{root} holds no images in the chosen layout")
    domains = {file.domain.lower() for file in files if file.domain is not None}
    if domains and domains <= {"train", "test", *UNUSED_DIVISIONS} and len(domains) < 2:
        (only,) = domains
        raise DataError(
            f"{root} holds {only}/ but not both train/ and test/: give {root / only} as the root, "
            f"and its test images will be drawn from it"
        )


def _report_misplaced(root: Path, paths: Sequence[PurePosixPath]) -> None:
    elsewhere = [path for path in paths if path.parts[0].lower() not in UNUSED_DIVISIONS]
    if elsewhere:
        logger.warning(
            "%s: %d images lie at another depth of the tree and are not used, such as %s",
            *(root, len(elsewhere), elsewhere[0]),
        )
