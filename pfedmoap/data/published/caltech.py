"""Caltech101, whose annotation is its folders and which has no official division."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pfedmoap.config.bounds import Fraction
from pfedmoap.data.dataset import ImageDataset
from pfedmoap.data.division import stratified_test_mask
from pfedmoap.data.images import has_image_suffix
from pfedmoap.data.published import names
from pfedmoap.data.published.files import Description, ListedImage
from pfedmoap.data.published.protocol import divided
from pfedmoap.data.published.torchvision_source import Source
from pfedmoap.errors import DataError


@dataclass(frozen=True)
class Caltech101:
    """Caltech101 as CoOp uses it: 100 classes, without the background and ``Faces_easy``.

    Attributes:
        root: Folder that holds ``caltech101``.
        download: Fetch the data if they are not there.
        split_file: CoOp's ``split_zhou_Caltech101.json``, below the root or anywhere; none draws
            the test images from every class alike, for there is no official division.
        test_fraction: Part of each class that is held out, without a ``split_file``.
        seed: Seed of that division.
    """

    root: str = "data"
    download: bool = False
    split_file: str | None = None
    test_fraction: Fraction = 0.3
    seed: int = 0

    def read(self) -> ImageDataset:
        """Read it; see `pfedmoap.data.dataset.DatasetReader`."""
        source = Source("Caltech101", "caltech101", "https://data.caltech.edu/records/mzrjq-6wc02")
        root = Path(self.root).expanduser()
        source.open(root, self.download)
        folder = root / "caltech101" / "101_ObjectCategories"
        images = _caltech_images(folder, source.remedy(root))
        labels = np.array([image.label for image in images])
        is_test = stratified_test_mask(labels, self.test_fraction, self.seed)
        drawn = [
            replace(image, is_test=bool(test)) for image, test in zip(images, is_test, strict=True)
        ]
        about = Description(
            "caltech101",
            tuple(names.CALTECH.values()),
            ("a photo of a {}.",),
            source.remedy(root),
        )
        return divided(folder, drawn, about, root, self.split_file)


def _caltech_images(folder: Path, remedy: str) -> list[ListedImage]:
    found = {path.name for path in folder.iterdir() if path.is_dir()}
    if lost := sorted(set(names.CALTECH) - found):
        raise DataError(f"{folder} lacks {len(lost)} of its classes, such as {lost[0]}. {remedy}")
    if foreign := sorted(found - set(names.CALTECH) - {"BACKGROUND_Google", "Faces_easy"}):
        raise DataError(f"{folder} has a folder {foreign[0]!r} that is no class of Caltech101")
    images = []
    for label, name in enumerate(names.CALTECH):
        for path in sorted((folder / name).iterdir()):
            if not has_image_suffix(path.name) or path.name.startswith("."):
                continue
            if not path.stem.removeprefix("image_").isdecimal():
                raise DataError(
                    f"{path} is not named image_NNNN.jpg: a copy of another image? Remove it"
                )
            images.append(ListedImage(f"{name}/{path.name}", label, is_test=False))
    return images
