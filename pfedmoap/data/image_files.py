"""Make a data set of image files with known labels; shared by all readers of files."""

import hashlib
import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from pfedmoap.config.bounds import Fraction
from pfedmoap.data.dataset import BoolArray, ImageDataset, IntArray
from pfedmoap.data.division import strata_of, stratified_test_mask
from pfedmoap.data.images import CheckedFile, check, decode, printable, read_content
from pfedmoap.data.inventory import DataFile, Inventory
from pfedmoap.data.persons import grouped_test_mask, report_divided
from pfedmoap.errors import DataError
from pfedmoap.storage.digests import sha256

logger = logging.getLogger(__name__)

NAMED_IN_WARNINGS = 10
"""Unreadable files that the warning names; all of them are in ``ImageDataset.unreadable``."""


@dataclass(frozen=True)
class ImageFile:
    """One image file, and what its place in a tree or its row in a table says about it.

    Attributes:
        path: Path below the root, with forward slashes, or an absolute one.
        class_folder: Its class: the folder that it lies in, or its label.
        domain: Its domain, or ``None`` where there are none.
        division: ``train`` or ``test``, or ``None`` where nothing says.
        group: Whose image it is, or ``None`` where nothing says.
    """

    path: str
    class_folder: str
    domain: str | None = None
    division: str | None = None
    group: str | None = None


def read_files(
    root: Path,
    name: str,
    found: Sequence[ImageFile],
    class_names: Callable[[Sequence[str]], tuple[str, ...]],
    *,
    test_fraction: Fraction,
    seed: int,
    table: Path | None = None,
) -> ImageDataset:
    """Check files and make a data set of those that can be used.

    Args:
        root: What the paths are relative to.
        name: Name of the data set.
        found: The files; either all or none have a domain, a division, a group.
        class_names: From the classes, sorted, to names for people.
        test_fraction: Part of each class (and domain) held out where the files have no division;
            with groups, whole groups are.
        seed: Seed of that division.
        table: The file that lists them, if one does; ``None`` where the folder itself says.

    Returns:
        The data set; classes, domains and groups are numbered in sorted order.

    Raises:
        DataError: No file is usable, or parts of the data have no class in common.
    """
    if not found:
        raise DataError(f"{name} names no image that is used")
    _check_names(root, found)
    files, checks, unreadable = _usable(root, found, table)
    _check_common_classes(root, files)
    folders, labels = _numbered([file.class_folder for file in files])
    in_domains = [file.domain for file in files if file.domain is not None]
    domain_names, numbers = _numbered(in_domains)
    domains = numbers if in_domains else None
    in_groups = [file.group for file in files if file.group is not None]
    groups = _numbered(in_groups)[1] if in_groups else None
    if files[0].division is not None:
        is_test = np.array([file.division == "test" for file in files])
    elif groups is None:
        is_test = stratified_test_mask(strata_of(labels, domains), test_fraction, seed)
    else:
        is_test = grouped_test_mask(strata_of(labels, domains), groups, test_fraction, seed)
    _report_duplicates(root, checks, is_test)
    if groups is not None:
        report_divided(name, groups, is_test)
    return ImageDataset(
        name=name,
        class_names=class_names(folders),
        labels=labels,
        is_test=is_test,
        load=_Files(tuple(root / file.path for file in files), tuple(one.digest for one in checks)),
        fingerprint=_fingerprint(files, checks),
        domains=domains,
        domain_names=domain_names,
        unreadable=unreadable,
        groups=groups,
        inventory=Inventory(
            root,
            tuple(
                DataFile(file.path, one.size_bytes, one.digest)
                for file, one in zip(files, checks, strict=True)
            ),
        ),
    )


def _check_names(root: Path, found: Sequence[ImageFile]) -> None:
    """Refuse classes and domains that are no text; files may have any name."""
    for file in found:
        for name in (file.class_folder, file.domain or ""):
            if printable(name) != name:
                raise DataError(
                    f"{printable(root)}: the folder {printable(name)!r} of {printable(file.path)} "
                    "is not UTF-8, and no prompt can name it: rename it"
                )


@dataclass(frozen=True)
class _Files:
    """Decodes image ``i`` from its file, whose content must still be what was checked."""

    paths: tuple[Path, ...]
    digests: tuple[str, ...]

    def __call__(self, index: int) -> Image.Image:
        path = self.paths[index]
        try:
            content = read_content(path)
            if sha256(content) != self.digests[index]:
                raise DataError("it has changed since the data were read; run again")
            return decode(content)
        except DataError as error:
            raise DataError(f"{printable(path)} can no longer be used: {error}") from error


def _usable(
    root: Path, found: Sequence[ImageFile], table: Path | None
) -> tuple[list[ImageFile], list[CheckedFile], tuple[str, ...]]:
    """Separate the files that decode, with their checks, from the others, with the reason."""
    place, kind = (root, "image files") if table is None else (table, "images that it lists")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        checked = list(pool.map(lambda file: check(root / file.path), found))
    pairs = list(zip(found, checked, strict=True))
    unreadable = tuple(
        f"{printable(file.path)}: {one.problem}" for file, one in pairs if one.problem
    )
    if unreadable:
        shown = _some(unreadable)
        summary = f"{printable(place)}: {len(unreadable)} of {len(found)} {kind} cannot be read"
        if len(unreadable) == len(found):
            raise DataError(f"{summary}: {shown}")
        logger.warning("%s and are left out: %s", summary, shown)
    usable = [(file, one) for file, one in pairs if one.problem is None]
    lost = {file.class_folder for file in found} - {file.class_folder for file, _ in usable}
    if lost:
        reasons = [
            f"{printable(file.path)}: {one.problem}"
            for file, one in pairs
            if file.class_folder in lost
        ]
        remedy = "remove the folder" if table is None else "mend these files or remove their rows"
        raise DataError(
            f"{printable(place)}: no image of {sorted(lost)} can be read; {remedy}: "
            f"{_some(reasons)}"
        )
    return [file for file, _ in usable], [one for _, one in usable], unreadable


def _some(reasons: Sequence[str]) -> str:
    """The first of them, in one line."""
    more = "; ..." if len(reasons) > NAMED_IN_WARNINGS else ""
    return "; ".join(reasons[:NAMED_IN_WARNINGS]) + more


def _numbered(names: Sequence[str]) -> tuple[tuple[str, ...], IntArray]:
    """Number names by their sorted order; returns the order and each name's number."""
    order = tuple(sorted(set(names)))
    numbers = {name: number for number, name in enumerate(order)}
    return order, np.array([numbers[name] for name in names], dtype=np.int64)


def _check_common_classes(root: Path, files: Sequence[ImageFile]) -> None:
    """Warn where parts of the tree differ in classes; refuse where they have none in common."""
    held: dict[str, set[str]] = {}
    for file in files:
        held.setdefault(file.domain or file.division or "", set()).add(file.class_folder)
    common, union = set.intersection(*held.values()), set.union(*held.values())
    if not common:
        counts = ", ".join(f"{part}: {len(classes)}" for part, classes in sorted(held.items()))
        raise DataError(
            f"{printable(root)}: no class folder is common to all of its parts ({counts} classes); "
            f"if these are classes and not domains, the tree is one level too deep"
        )
    for part, classes in sorted(held.items()):
        if missing := sorted(union - classes):
            logger.warning("%s: %s has no image of the classes %s", printable(root), part, missing)


def _report_duplicates(root: Path, checks: Sequence[CheckedFile], is_test: BoolArray) -> None:
    pairs = list(zip(checks, is_test, strict=True))
    seen = {one.digest for one, test in pairs if not test}
    if count := sum(one.digest in seen for one, test in pairs if test):
        logger.warning(
            "%s: %d of %d test images are byte for byte the same as a training image",
            printable(root),
            count,
            int(is_test.sum()),
        )


def _fingerprint(files: Sequence[ImageFile], checks: Sequence[CheckedFile]) -> str:
    """Hash of every file's path below the root, size and content, in order."""
    total = hashlib.sha256(b"image folder 1")
    for file, one in zip(files, checks, strict=True):
        total.update(os.fsencode(f"\0{file.path}\0{one.size_bytes}\0{one.digest}"))
    return total.hexdigest()
