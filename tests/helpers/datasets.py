"""A small data set with known labels and domains, for the tests of everything about data."""

import hashlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from pfedmoap.data.dataset import ImageDataset

MakeDataset = Callable[..., ImageDataset]


@pytest.fixture
def make_dataset() -> MakeDataset:
    """Make a data set of plain-coloured images, with the same counts in every class and domain."""

    def make(
        classes: int = 4, train: int = 6, test: int = 3, domains: int = 0, size: int = 8
    ) -> ImageDataset:
        cells = max(domains, 1) * classes
        each = train + test
        cell = np.repeat(np.arange(cells), each)
        n = len(cell)

        def load(index: int) -> Image.Image:
            noise = np.random.default_rng(index).integers(0, 255, (size, size, 3))
            return Image.fromarray(noise.astype(np.uint8))

        return ImageDataset(
            name="toy",
            class_names=tuple(f"class {label}" for label in range(classes)),
            labels=cell % classes,
            is_test=np.tile(np.arange(each) >= train, cells),
            load=load,
            fingerprint=hashlib.sha256(repr((n, size)).encode()).hexdigest(),
            domains=cell // classes if domains else None,
            domain_names=tuple(f"domain {number}" for number in range(domains)),
        )

    return make
