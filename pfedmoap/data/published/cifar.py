"""CIFAR-10 and CIFAR-100 through torchvision; the backbone's preprocessing enlarges the images."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pfedmoap.data.dataset import ImageDataset
from pfedmoap.data.published import names
from pfedmoap.data.published.torchvision_source import Source, check_class_names
from pfedmoap.errors import DataError

TEMPLATES = tuple(
    f"a {quality}photo of {article} {size}{{}}."
    for article in ("a", "the")
    for quality, size in (
        *((quality, "") for quality in ("", "blurry ", "black and white ", "low contrast ")),
        *((quality, "") for quality in ("high contrast ", "bad ", "good ")),
        *(("", size) for size in ("small ", "big ")),
    )
)
"""CLIP's published prompts for both sets."""


@dataclass(frozen=True)
class CIFAR10:
    """CIFAR-10: 10 classes, 50,000 training and 10,000 test images of 32 x 32 pixels.

    Attributes:
        root: Folder that holds ``cifar-10-batches-py``.
        download: Fetch the data if they are not there.
    """

    root: str = "data"
    download: bool = False

    def read(self) -> ImageDataset:
        """Read it; see `pfedmoap.data.dataset.DatasetReader`."""
        source = Source("CIFAR10", "cifar-10-batches-py", SITE)
        return _read("cifar10", source, self.root, self.download, names.CIFAR10)


@dataclass(frozen=True)
class CIFAR100:
    """CIFAR-100: 100 classes, 50,000 training and 10,000 test images of 32 x 32 pixels.

    Attributes:
        root: Folder that holds ``cifar-100-python``.
        download: Fetch the data if they are not there.
    """

    root: str = "data"
    download: bool = False

    def read(self) -> ImageDataset:
        """Read it; see `pfedmoap.data.dataset.DatasetReader`."""
        source = Source("CIFAR100", "cifar-100-python", SITE)
        groups = names.CIFAR100_SUPERCLASSES
        group_of = {name: number for number, group in enumerate(groups) for name in group}
        dataset = _read("cifar100", source, self.root, self.download, names.CIFAR100)
        return replace(dataset, superclasses=tuple(group_of[n] for n in dataset.class_names))


SITE = "https://www.cs.toronto.edu/~kriz/cifar.html"


def _read(
    name: str, source: Source, root: str, download: bool, class_names: Sequence[str]
) -> ImageDataset:
    """Read both divisions; torchvision has compared every file's checksum."""
    place = Path(root).expanduser()
    parts = [source.open(place, download, train=train) for train in (True, False)]
    for part in parts:
        check_class_names(source, part.classes, class_names)
    pixels: NDArray[np.uint8] = np.concatenate([part.data for part in parts])
    labels = np.array([label for part in parts for label in part.targets], dtype=np.int64)
    if len(labels) != len(pixels) or set(labels.tolist()) != set(range(len(class_names))):
        raise DataError(
            f"{name} has {len(pixels)} images, {len(labels)} labels and {len(set(labels))} "
            f"classes, expected {len(class_names)} classes. {source.remedy(place)}"
        )
    return ImageDataset(
        name=name,
        class_names=tuple(class_names),
        labels=labels,
        is_test=np.arange(len(labels)) >= len(parts[0].data),
        load=_Pixels(pixels),
        fingerprint=hashlib.sha256(b"cifar 1" + pixels.tobytes()).hexdigest(),
        templates=TEMPLATES,
    )


@dataclass(frozen=True)
class _Pixels:
    """Serves colour images held in memory, (n, 32, 32, 3) uint8."""

    pixels: NDArray[np.uint8]

    def __call__(self, index: int) -> Image.Image:
        return Image.fromarray(self.pixels[index])
