"""The common form of all data sets."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pfedmoap.data.inventory import Inventory
from pfedmoap.errors import DataError

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class Grouping:
    """Classes that partitions and few shots go by where they are not the labels.

    Attributes:
        names: Names of the classes.
        numbers: Class of each item, (n,).
    """

    names: tuple[str, ...]
    numbers: IntArray


@dataclass(frozen=True)
class ImageDataset:
    """Labelled images with a fixed train/test division; images are loaded one by one on demand.

    Items may also be questions (`pfedmoap.data.questions.reader`): partitions use only labels, and
    only the encoder depends on the items' type.

    Attributes:
        name: Short name for tables and messages.
        class_names: Human-readable names; label ``i`` means ``class_names[i]``.
        labels: Class of each image, (n,).
        is_test: Whether each image belongs to the test division, (n,).
        load: Returns image ``i`` as an RGB PIL image, or question ``i``; called from several
            threads.
        fingerprint: Identifies the images' content; part of the feature cache's key.
        domains: Domain of each image, (n,), or ``None`` where the data have no domains.
        domain_names: Names of the domains, in the order of their ids.
        templates: Hand-written prompts for zero-shot classification, each with one ``{}``.
        unreadable: Files that were found but could not be read, each with the reason.
        grouping: Other classes to share the items out by; ``None`` shares out by label.
        groups: Whose image each is, (n,), e.g. a patient's number; ``None`` where nothing says.
        inventory: The file of each image; ``None`` where they are no files.
        superclasses: Which group of like classes each class belongs to, C numbers; ``None`` where
            classes have none.
    """

    name: str
    class_names: tuple[str, ...]
    labels: IntArray
    is_test: BoolArray
    load: Callable[[int], Any]  # only the encoder depends on an item's type
    fingerprint: str
    domains: IntArray | None = None
    domain_names: tuple[str, ...] = ()
    templates: tuple[str, ...] = ("a photo of a {}.",)
    unreadable: tuple[str, ...] = ()
    grouping: Grouping | None = None
    groups: IntArray | None = None
    inventory: Inventory | None = None
    superclasses: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        n = len(self.labels)
        if n == 0:
            raise DataError(f"data set {self.name!r} has no images")
        if any(not name.strip() for name in self.class_names):
            raise DataError(
                f"data set {self.name!r} has a class without a name, number "
                f"{[bool(name.strip()) for name in self.class_names].index(False)} of "
                f"{len(self.class_names)}: give each class a name, from which its prompt is made"
            )
        if len(set(self.class_names)) != len(self.class_names):
            raise DataError(f"data set {self.name!r} has duplicate class names")
        if self.is_test.shape != (n,):
            raise DataError(f"is_test has shape {self.is_test.shape}, expected ({n},)")
        if self.labels.min() < 0 or self.labels.max() >= len(self.class_names):
            raise DataError(
                f"labels of {self.name!r} span [{self.labels.min()}, {self.labels.max()}], "
                f"but there are {len(self.class_names)} class names"
            )
        if self.domains is not None and (
            self.domains.shape != (n,) or self.domains.max() >= len(self.domain_names)
        ):
            raise DataError(
                f"domains of {self.name!r} must have shape ({n},) and ids below "
                f"{len(self.domain_names)}, the number of domain names"
            )

        if self.superclasses is not None and len(self.superclasses) != len(self.class_names):
            raise DataError(
                f"{len(self.superclasses)} classes of {self.name!r} have a superclass, expected "
                f"{len(self.class_names)}"
            )
        if self.groups is not None and self.groups.shape != (n,):
            raise DataError(
                f"groups of {self.name!r} have shape {self.groups.shape}, expected ({n},)"
            )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shared_out(self) -> "ImageDataset":
        """The data set with the labels and classes that it is shared out by."""
        if self.grouping is None:
            return self
        names, numbers = self.grouping.names, self.grouping.numbers
        return replace(self, class_names=names, labels=numbers, grouping=None)


def chosen_images(dataset: ImageDataset, indices: IntArray) -> ImageDataset:
    """Restrict a data set to some of its images, e.g. to encode only those that are used.

    Args:
        dataset: The data set.
        indices: Which images, in the order that the result has them, (m,).

    Returns:
        A data set of m images with the same classes and domains.
    """
    which = hashlib.sha256(np.asarray(indices, dtype=np.int64).tobytes()).hexdigest()
    return replace(
        dataset,
        labels=dataset.labels[indices],
        is_test=dataset.is_test[indices],
        load=_Chosen(dataset.load, indices),
        fingerprint=hashlib.sha256(f"{dataset.fingerprint} {which}".encode()).hexdigest(),
        domains=None if dataset.domains is None else dataset.domains[indices],
        grouping=dataset.grouping
        and Grouping(dataset.grouping.names, dataset.grouping.numbers[indices]),
        groups=None if dataset.groups is None else dataset.groups[indices],
        inventory=dataset.inventory and dataset.inventory.of(indices),
    )


@dataclass(frozen=True)
class _Chosen:
    """Loads some of the images of another data set."""

    load: Callable[[int], Any]
    indices: IntArray

    def __call__(self, position: int) -> Any:
        return self.load(int(self.indices[position]))


class DatasetReader(Protocol):
    """A frozen dataclass of options with one job: read a data set."""

    def read(self) -> ImageDataset:
        """Read the data set, or raise `DataError` with what to do."""
        ...
