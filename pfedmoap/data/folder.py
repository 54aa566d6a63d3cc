"""Images in folders: a folder for each class, perhaps below one for each domain or division."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pfedmoap.config.bounds import Fraction
from pfedmoap.config.suggestions import perhaps
from pfedmoap.data.dataset import ImageDataset
from pfedmoap.data.image_files import read_files
from pfedmoap.data.tree import LayoutName, scan
from pfedmoap.errors import DataError


@dataclass(frozen=True)
class ImageFolder:
    """Images in a folder tree, in any of three layouts.

    ``root/class/*``, or ``root/train/class/*`` with ``root/test/class/*``, or
    ``root/domain/class/*``. Without given divisions the test images are drawn from every class, and
    domain, alike. Usual names of parts (``Training``, ``val``, ``valid``, ``dev``, ``eval``,
    ``tst``, ``test_set``) are known in any case, and how they were read is logged: a part for
    validation is tested on where there is none for testing, and else not used; it is never trained
    on. Files are taken in sorted order, and every image is decoded once to find those that cannot
    be used: these are listed in the data set's ``unreadable`` and logged. Whatever Pillow opens is
    an image, whatever its suffix.

    Attributes:
        root: The folder.
        layout: ``classes`` for the first two layouts, ``splits`` for the second, ``domains`` for
            the third, whatever the folders are called; ``auto`` tells by the depth of the tree and
            the names of its folders.
        test_fraction: Part of each class (and domain) held out, where the tree has no division.
        seed: Seed of that division.
        class_names: Better names for class folders, by folder name. Other folders are named by
            themselves, without a leading number and full stop, with spaces for underscores;
            hyphens stay (``t-shirt``).
        groups: ``subfolder`` where each class folder holds a folder for each person, as in
            ``root/class/person/*``; the same name is the same person wherever it stands. For
            ``--privacy.unit group``.
    """

    root: str
    layout: LayoutName = "auto"
    test_fraction: Fraction = 0.3
    seed: int = 0
    class_names: Mapping[str, str] | None = None
    groups: Literal["none", "subfolder"] = "none"

    def read(self) -> ImageDataset:
        """Read the tree.

        Returns:
            The data set; classes and domains are in the sorted order of their folders. Class lists
            that differ between domains, or between train and test, are united with a warning
            where at least one class is common to all, and are an error where none is.

        Raises:
            DataError: If the tree has another form, no usable image, or no common class.
        """
        root = Path(self.root).expanduser()
        return read_files(
            root,
            root.resolve().name,
            scan(root, self.layout, persons=self.groups == "subfolder"),
            self._names,
            test_fraction=self.test_fraction,
            seed=self.seed,
        )

    def _names(self, folders: Sequence[str]) -> tuple[str, ...]:
        """Human-readable class names, in the order of the folders."""
        given = self.class_names or {}
        if unknown := sorted(set(given) - set(folders)):
            raise DataError(
                f"class_names has {unknown}, but the class folders are {folders}"
                f"{perhaps(unknown, folders)}"
            )
        names = tuple(given.get(folder, human_name(folder)) for folder in folders)
        if len(set(names)) < len(names):
            named = zip(folders, names, strict=True)
            doubles = [folder for folder, name in named if names.count(name) > 1]
            raise DataError(f"folders {doubles} have the same name: tell them apart by class_names")
        return names


def human_name(folder: str) -> str:
    """Name a class by its folder.

    Examples:
        >>> human_name("001.Black_footed_Albatross"), human_name("t-shirt")
        ('Black footed Albatross', 't-shirt')
    """
    stripped = re.sub(r"^\d+\.\s*", "", folder)
    return " ".join(stripped.replace("_", " ").split()) or folder
