"""Readers of the domain sets: DomainNet's ten classes, Office-Caltech10, PACS, Office-31, -Home."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from pfedmoap.config.bounds import Fraction
from pfedmoap.data.dataset import ImageDataset
from pfedmoap.data.division import strata_of, stratified_test_mask
from pfedmoap.data.published.domain_trees import (
    DOMAINNET,
    OFFICE31,
    OFFICE_CALTECH10,
    OFFICE_HOME,
    PACS,
    DomainTree,
)
from pfedmoap.data.published.files import Description, ListedImage, dataset_of_files
from pfedmoap.errors import DataError


@dataclass(frozen=True)
class DomainNet10:
    """The ten-class subset of DomainNet that FedBN (ICLR 2021) introduced, in six domains.

    Attributes:
        root: Folder of ``clipart``, ``infograph`` and so on.
        division: ``official`` lists ``<domain>_train.txt`` and ``<domain>_test.txt`` in the root or
            its folder ``splits``, or test images ``drawn`` from every class and domain alike.
        test_fraction: Part of each class and domain that is held out, if drawn.
        seed: Seed of that division.
    """

    root: str = "data/domainnet"
    division: Literal["official", "drawn"] = "official"
    test_fraction: Fraction = 0.3
    seed: int = 0

    def read(self) -> ImageDataset:
        """Read it; see `pfedmoap.data.dataset.DatasetReader`."""
        root = Path(self.root).expanduser()
        if self.division == "drawn":
            return _drawn(DOMAINNET, self.root, self.test_fraction, self.seed)
        DOMAINNET.images(root)  # complains of missing domains and classes first
        images = [
            image
            for number, domain in enumerate(DOMAINNET.domains)
            for is_test in (False, True)
            for image in _listed(root, domain, number, is_test)
        ]
        return dataset_of_files(root, images, _about(DOMAINNET, root))


@dataclass(frozen=True)
class OfficeCaltech10:
    """Office-Caltech10: four domains, ten classes, 2,533 photographs.

    Attributes:
        root: Folder of ``amazon``, ``caltech``, ``dslr`` and ``webcam``.
        test_fraction: Part of each class and domain that is held out.
        seed: Seed of that division.
    """

    root: str = "data/office_caltech10"
    test_fraction: Fraction = 0.3
    seed: int = 0

    def read(self) -> ImageDataset:
        """Read it; see `pfedmoap.data.dataset.DatasetReader`."""
        return _drawn(OFFICE_CALTECH10, self.root, self.test_fraction, self.seed)


@dataclass(frozen=True)
class PACSDomains:
    """PACS: four domains, seven classes, 9,991 pictures.

    Attributes:
        root: Folder of ``art_painting``, ``cartoon``, ``photo`` and ``sketch``.
        test_fraction: Part of each class and domain that is held out.
        seed: Seed of that division.
    """

    root: str = "data/pacs"
    test_fraction: Fraction = 0.3
    seed: int = 0

    def read(self) -> ImageDataset:
        """Read it; see `pfedmoap.data.dataset.DatasetReader`."""
        return _drawn(PACS, self.root, self.test_fraction, self.seed)


@dataclass(frozen=True)
class Office31:
    """Office-31: three domains, 31 classes, 4,110 photographs.

    Attributes:
        root: Folder of ``amazon``, ``dslr`` and ``webcam``, each with class folders or ``images``.
        test_fraction: Part of each class and domain that is held out.
        seed: Seed of that division.
    """

    root: str = "data/office31"
    test_fraction: Fraction = 0.3
    seed: int = 0

    def read(self) -> ImageDataset:
        """Read it; see `pfedmoap.data.dataset.DatasetReader`."""
        return _drawn(OFFICE31, self.root, self.test_fraction, self.seed)


@dataclass(frozen=True)
class OfficeHome:
    """Office-Home: four domains, 65 classes, 15,588 pictures.

    Attributes:
        root: Folder of ``Art``, ``Clipart``, ``Product`` and ``Real World``.
        test_fraction: Part of each class and domain that is held out.
        seed: Seed of that division.
    """

    root: str = "data/office_home"
    test_fraction: Fraction = 0.3
    seed: int = 0

    def read(self) -> ImageDataset:
        """Read it; see `pfedmoap.data.dataset.DatasetReader`."""
        return _drawn(OFFICE_HOME, self.root, self.test_fraction, self.seed)


def _drawn(tree: DomainTree, folder: str, test_fraction: float, seed: int) -> ImageDataset:
    """Read a tree, with test images drawn from every class and domain alike."""
    root = Path(folder).expanduser()
    images = tree.images(root)
    strata = strata_of(
        np.array([image.label for image in images]), np.array([image.domain for image in images])
    )
    is_test = stratified_test_mask(strata, test_fraction, seed)
    divided = [
        replace(image, is_test=bool(test)) for image, test in zip(images, is_test, strict=True)
    ]
    return dataset_of_files(root, divided, _about(tree, root))


def _about(tree: DomainTree, root: Path) -> Description:
    return Description(
        name=tree.name,
        class_names=tuple(tree.classes),
        templates=("a photo of a {}.",),
        remedy=tree.remedy(root),
        domain_names=tuple(tree.domains),
    )


def _listed(root: Path, domain: str, number: int, is_test: bool) -> list[ListedImage]:
    """The ten classes' images of one of DomainNet's official lists (``path label`` on a line)."""
    name = f"{domain}_{'test' if is_test else 'train'}.txt"
    path = next((p for p in (root / name, root / "splits" / name) if p.is_file()), None)
    if path is None:
        raise DataError(
            f"there is no list {name} in {root} or {root / 'splits'}: put it there, or choose "
            f"data.division drawn. {DOMAINNET.remedy(root)}"
        )
    labels = {folders[0]: label for label, folders in enumerate(DOMAINNET.classes.values())}
    images = []
    for number_of_line, line in enumerate(path.read_text().splitlines(), start=1):
        file = line.rpartition(" ")[0]
        parts = file.split("/")
        if len(parts) != 3 or parts[0] != domain:
            raise DataError(
                f"{path}, line {number_of_line}: expected '{domain}/<class>/<image> <label>', "
                f"got {line!r}"
            )
        if parts[1] in labels:
            images.append(ListedImage(file, labels[parts[1]], is_test, number))
    return images
