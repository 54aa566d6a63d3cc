"""The real handwritten digits that scikit-learn bundles: real images without a download."""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pfedmoap.config.bounds import Fraction
from pfedmoap.data.dataset import ImageDataset
from pfedmoap.data.division import stratified_test_mask

CLASS_NAMES = tuple(f"the digit {digit}" for digit in range(10))
TEMPLATES = ("a photo of {}.",)


@dataclass(frozen=True)
class Digits:
    """1,797 handwritten digits, 10 classes, from 43 writers (UCI optical recognition, test part).

    The 8 x 8 grey images get a black margin of one pixel, since backbones are used to objects
    that do not touch the border; the backbone's preprocessing enlarges them.

    Examples:
        >>> digits = Digits().read()
        >>> len(digits), digits.class_names[3], digits.load(0).size
        (1797, 'the digit 3', (10, 10))

    Attributes:
        test_fraction: Part of each class that is held out for testing.
        seed: Seed of the train/test division.
    """

    test_fraction: Fraction = 0.4
    seed: int = 0

    def read(self) -> ImageDataset:
        """Read the digits.

        Returns:
            The data set, in scikit-learn's order; label ``i`` is the digit ``i``.

        Raises:
            ConfigError: If ``test_fraction`` is not strictly between 0 and 1.
        """
        from sklearn.datasets import load_digits  # takes a second

        bundled = load_digits()
        grey = np.rint(bundled.images * (255 / 16)).astype(np.uint8)
        pixels = np.pad(grey, ((0, 0), (1, 1), (1, 1)))
        labels = bundled.target.astype(np.int64)
        return ImageDataset(
            name="digits",
            class_names=CLASS_NAMES,
            labels=labels,
            is_test=stratified_test_mask(labels, self.test_fraction, self.seed),
            load=_Pixels(pixels),
            fingerprint=hashlib.sha256(b"digits 1" + pixels.tobytes()).hexdigest(),
            templates=TEMPLATES,
        )


@dataclass(frozen=True)
class _Pixels:
    """Serves grey images held in memory, (n, height, width) uint8, as RGB."""

    pixels: NDArray[np.uint8]

    def __call__(self, index: int) -> Image.Image:
        return Image.fromarray(self.pixels[index]).convert("RGB")
