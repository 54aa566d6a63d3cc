"""Find the image files of a folder tree and its layout."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Literal

from pfedmoap.data.image_files import ImageFile
from pfedmoap.data.images import printable
from pfedmoap.data.split_names import Use, report_uses, roles_of, uses_of
from pfedmoap.data.walk import walk
from pfedmoap.errors import DataError

logger = logging.getLogger(__name__)

LayoutName = Literal["auto", "classes", "domains", "splits"]
Paths = Sequence[PurePosixPath]


def scan(root: Path, layout: LayoutName, *, persons: bool = False) -> list[ImageFile]:
    """Find the image files below a folder.

    Files and folders whose names begin with a dot are passed over; so are files that are no
    images, with a warning that counts them.

    Args:
        root: The folder.
        layout: ``classes`` for ``root/class/*`` or ``root/split/class/*``, ``splits`` for the
            latter alone, ``domains`` for ``root/domain/class/*`` whatever the domains are called,
            or ``auto``, which also finds the parts of the split below each class or domain.
        persons: Whether each class folder holds a folder for each person, and these the images.

    Returns:
        The files in sorted order of their paths, the same on every machine. Images that lie
        elsewhere in the tree are left out with a warning.

    Raises:
        DataError: If there is no image, or the tree does not have the layout.
    """
    if not root.is_dir():
        raise DataError(f"{printable(root)} is not a folder")
    paths = sorted(walk(root), key=lambda path: path.parts)
    folders = {path: _folders(path, persons) for path in paths}
    level = None if layout == "domains" else _split_level(root, folders, layout)
    if level is None:
        files, reported = _undivided(root, folders, layout, persons), set[PurePosixPath]()
    else:
        files, reported = _divided(root, folders, level)
    kept = {file.path for file in files}
    _report_misplaced(root, [p for p in paths if str(p) not in kept and p not in reported])
    if persons:
        files = [replace(file, group=PurePosixPath(file.path).parts[-2]) for file in files]
    return files


def _folders(path: PurePosixPath, persons: bool) -> tuple[str, ...]:
    """The folders that a file lies in, without its person's."""
    return path.parts[:-2] if persons else path.parts[:-1]


def _split_level(
    root: Path, folders: Mapping[PurePosixPath, tuple[str, ...]], layout: LayoutName
) -> int | None:
    """At which depth the folders are the parts of a split; ``None`` where the tree has none."""
    tops = {names[0] for names in folders.values() if names}
    deep = {names[0] for names in folders.values() if len(names) > 1}
    parts = set(roles_of(tops))
    if layout == "splits" and not parts & deep:
        raise DataError(f"{printable(root)} has no train/class/image, as the layout splits asks")
    if layout == "auto" and not deep and parts and parts == tops:
        raise DataError(
            f"{printable(root)} holds images right in {_listed(parts)}, which name the parts of a "
            "division, without a folder for each class; if they are classes, choose --data.layout "
            "classes"
        )
    if parts & deep and (layout != "classes" or parts >= deep):
        if (others := sorted(tops - parts)) and layout != "splits":
            raise DataError(
                f"{printable(root)} has a folder {printable(others[0])!r} beside {_listed(parts)}, "
                "which name the parts of a division: move one of them away, or choose "
                "--data.layout splits (the others are left out) or domains (all are domains)"
            )
        return 0
    inner = {names[1] for names in folders.values() if len(names) > 1}
    if layout == "auto" and len(inner) > 1 and inner == set(roles_of(inner)):
        return 1
    return None


def _undivided(
    root: Path,
    folders: Mapping[PurePosixPath, tuple[str, ...]],
    layout: LayoutName,
    persons: bool,
) -> list[ImageFile]:
    """The files of a tree of classes, or of domains and classes."""
    shallow = [path for path, names in folders.items() if len(names) == 1]
    deep = [path for path, names in folders.items() if len(names) == 2]
    below = "/person" if persons else ""
    if not shallow and not deep:
        raise DataError(
            f"{printable(root)} holds no images as class{below}/image or domain/class{below}/image "
            f"({len(folders)} images elsewhere below it)"
        )
    if layout == "auto" and shallow and deep:
        raise DataError(
            f"{printable(root)} mixes {len(shallow)} images as class{below}/image (such as "
            f"{printable(shallow[0])}) with {len(deep)} as folder/class{below}/image (such as "
            f"{printable(deep[0])}): choose the layout, classes or domains, or tidy the tree"
        )
    if layout == "domains" or (layout == "auto" and deep):
        files = [ImageFile(str(p), class_folder=p.parts[1], domain=p.parts[0]) for p in deep]
    else:
        files = [ImageFile(str(p), class_folder=p.parts[0]) for p in shallow]
    if not files:
        raise DataError(f"{printable(root)} holds no images in the chosen layout")
    if named := roles_of({file.domain for file in files if file.domain}):
        logger.warning(
            "%s: %s are taken for domains, as the layout asks: images of each are trained on",
            printable(root),
            _listed(named),
        )
    return files


def _divided(
    root: Path, folders: Mapping[PurePosixPath, tuple[str, ...]], level: int
) -> tuple[list[ImageFile], set[PurePosixPath]]:
    """The files of a tree whose folders at some depth are the parts of a split.

    Returns:
        The files, and those that a warning has named.
    """
    inside = {path: names for path, names in folders.items() if len(names) > level}
    roles = roles_of({names[level] for names in inside.values()})
    found = [
        (path, names[level], (*names[:level], *names[level + 1 :]))
        for path, names in inside.items()
        if names[level] in roles
    ]
    unlabelled = {path for path, _, rest in found if not rest}
    counts = Counter(part for _, part, rest in found if rest)
    uses = uses_of({part: roles[part] for part in sorted(counts)})
    if unlabelled:
        logger.warning(
            "%s: %d images lie right in a part of the division, without a class, and are not "
            "used, such as %s",
            printable(root),
            len(unlabelled),
            printable(min(unlabelled)),
        )
    drawn = bool(unlabelled) and set(uses.values()) == {"train"}  # what to test on has no classes
    if not drawn:
        _check_parts(root, uses)
        report_uses(printable(root), uses, counts)
    depth = min(len(rest) for _, _, rest in found if rest)
    if depth > 2:
        raise DataError(
            f"{printable(root)} is divided into {_listed(counts)}, but no image lies as "
            "split/class/image or split/domain/class/image: tidy the tree"
        )
    files = [
        ImageFile(
            str(path),
            class_folder=rest[-1],
            domain=rest[0] if depth == 2 else None,
            division=None if drawn else uses[part],
        )
        for path, part, rest in found
        if len(rest) == depth and uses[part] != "unused"
    ]
    unused = {path for path, part, rest in found if rest and uses[part] == "unused"}
    return files, unlabelled | unused


def _check_parts(root: Path, uses: Mapping[str, Use]) -> None:
    """Refuse a division without images to train on, or to test on."""
    if "train" in uses.values() and "test" in uses.values():
        return
    if "train" in uses.values():
        only = next(iter(uses))
        raise DataError(
            f"{printable(root)} holds {_listed(uses)} but not both train/ and test/: give "
            f"{printable(root / only)} as the root, and its test images will be drawn from it"
        )
    raise DataError(
        f"{printable(root)} holds {_listed(uses)} but not both train/ and test/: images of these "
        "are not trained on; choose --data.layout domains if they are domains"
    )


def _listed(names: Sequence[str] | Mapping[str, object] | set[str]) -> str:
    return ", ".join(f"{printable(name)}/" for name in sorted(names))


def _report_misplaced(root: Path, paths: Paths) -> None:
    if paths:
        logger.warning(
            "%s: %d images lie at another depth of the tree and are not used, such as %s",
            printable(root),
            len(paths),
            printable(paths[0]),
        )
