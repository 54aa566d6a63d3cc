"""Five sets of the few-shot protocol in CoOp's layouts: cars, aircraft, land, scenes, actions.

Names of classes are CoOp's (arXiv 2109.01134). Where there is one of CoOp's division files, it
divides; its labels are held against the set's own annotation.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pfedmoap.config.bounds import Fraction
from pfedmoap.data.dataset import ImageDataset
from pfedmoap.data.division import stratified_test_mask
from pfedmoap.data.published import names
from pfedmoap.data.published.files import Description, ListedImage, dataset_of_files
from pfedmoap.data.published.layouts import (
    expect_classes,
    images_in,
    label_in,
    lines_of,
    remedy_for,
)
from pfedmoap.data.published.protocol import divided
from pfedmoap.data.published.torchvision_source import Source
from pfedmoap.errors import DataError


@dataclass(frozen=True)
class StanfordCars:
    """Stanford Cars: 196 makes, models and years, 16,185 photographs; the year comes first.

    Attributes:
        root: Folder that holds ``stanford_cars`` with ``cars_train``, ``cars_test``, ``devkit`` and
            ``cars_test_annos_withlabels.mat``.
        split_file: CoOp's ``split_zhou_StanfordCars.json``, below the root or anywhere; none takes
            the official division.
    """

    root: str = "data"
    split_file: str | None = None

    def read(self) -> ImageDataset:
        """Read it; see `pfedmoap.data.dataset.DatasetReader`."""
        root = Path(self.root).expanduser()
        folder = root / "stanford_cars"
        remedy = remedy_for(
            folder,
            "https://ai.stanford.edu/~jkrause/cars/car_dataset.html",
            "cars_train, cars_test, devkit and cars_test_annos_withlabels.mat",
        )
        meta = folder / "devkit" / "cars_meta.mat"
        found = [_text(name) for name in _matlab(meta, "class_names", remedy)]
        expect_classes(found, 196, meta, remedy)
        parts = {
            "cars_train": (folder / "devkit" / "cars_train_annos.mat", False),
            "cars_test": (folder / "cars_test_annos_withlabels.mat", True),
        }
        images = [
            ListedImage(f"{part}/{file}", label, is_test)
            for part, (annotation, is_test) in parts.items()
            for file, label in _cars(annotation, remedy)
        ]
        year_first = tuple(" ".join([name.split()[-1], *name.split()[:-1]]) for name in found)
        about = Description("stanford_cars", year_first, ("a photo of a {}.",), remedy)
        return divided(folder, images, about, root, self.split_file)


@dataclass(frozen=True)
class FGVCAircraft:
    """FGVC-Aircraft: 100 variants, 10,000 photographs, divided as their authors do.

    Attributes:
        root: Folder that holds ``fgvc_aircraft`` as CoOp lays it out, or ``fgvc-aircraft-2013b``
            as torchvision leaves it.
        download: Fetch the data if they are not there.
        validation: Whether the validation images are among those to ``train`` on, or ``unused`` as
            in CoOp.
    """

    root: str = "data"
    download: bool = False
    validation: Literal["train", "unused"] = "train"

    def read(self) -> ImageDataset:
        """Read it; see `pfedmoap.data.dataset.DatasetReader`."""
        site = "https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/"
        source = Source("FGVCAircraft", "fgvc-aircraft-2013b", site)
        root = Path(self.root).expanduser()
        folder, remedy = root / "fgvc_aircraft", source.remedy(root)
        if not folder.is_dir():
            source.open(root, self.download, split="train")
            folder = root / source.folder / "data"
        file = folder / "variants.txt"
        variants = lines_of(file, remedy)
        expect_classes(variants, 100, file, remedy)
        labels = {name: label for label, name in enumerate(variants)}
        images: list[ListedImage] = []
        kept = ("train", "val", "test") if self.validation == "train" else ("train", "test")
        for part in kept:
            listing = folder / f"images_variant_{part}.txt"
            for line in lines_of(listing, remedy):
                image, _, variant = line.partition(" ")
                label = label_in(labels, variant, listing, remedy)
                images.append(ListedImage(f"{image}.jpg", label, part == "test"))
        template = "a photo of a {}, a type of aircraft."
        about = Description("fgvc_aircraft", tuple(variants), (template,), remedy)
        return dataset_of_files(folder / "images", images, about)


@dataclass(frozen=True)
class EuroSAT:
    """EuroSAT: 10 kinds of land, 27,000 satellite images of 64 x 64 pixels.

    Attributes:
        root: Folder that holds ``eurosat/2750``.
        download: Fetch the data if they are not there.
        split_file: CoOp's ``split_zhou_EuroSAT.json``, below the root or anywhere; none draws the
            test images from every class alike, for there is no official division.
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
        source = Source("EuroSAT", "eurosat", "https://github.com/phelber/EuroSAT")
        root = Path(self.root).expanduser()
        folder, remedy = root / "eurosat" / "2750", source.remedy(root)
        if not folder.is_dir():
            source.open(root, self.download)
        images = [
            ListedImage(f"{kind}/{file}", label, is_test=False)
            for label, kind in enumerate(names.EUROSAT)
            for file in images_in(folder / kind, remedy)
        ]
        is_test = stratified_test_mask(
            np.array([image.label for image in images]), self.test_fraction, self.seed
        )
        drawn = [
            replace(image, is_test=bool(test)) for image, test in zip(images, is_test, strict=True)
        ]
        template = "a centered satellite photo of {}."
        about = Description("eurosat", tuple(names.EUROSAT.values()), (template,), remedy)
        return divided(folder, drawn, about, root, self.split_file)


@dataclass(frozen=True)
class SUN397:
    """SUN397: 397 scenes; the first official partition has 50 and 50 images a class.

    Attributes:
        root: Folder that holds ``sun397`` with ``SUN397``, ``ClassName.txt``, ``Training_01.txt``
            and ``Testing_01.txt``.
        split_file: CoOp's ``split_zhou_SUN397.json``, below the root or anywhere; none takes the
            first official partition.
    """

    root: str = "data"
    split_file: str | None = None

    def read(self) -> ImageDataset:
        """Read it; see `pfedmoap.data.dataset.DatasetReader`."""
        root = Path(self.root).expanduser()
        folder = root / "sun397"
        remedy = remedy_for(
            folder,
            "https://vision.princeton.edu/projects/2010/SUN/",
            "SUN397, ClassName.txt, Training_01.txt and Testing_01.txt",
        )
        file = folder / "ClassName.txt"
        kinds = [line.strip("/") for line in lines_of(file, remedy)]
        expect_classes(kinds, 397, file, remedy)
        labels = {kind: label for label, kind in enumerate(kinds)}
        images = [
            ListedImage(
                image, label_in(labels, image.rpartition("/")[0], folder / listing, remedy), is_test
            )
            for listing, is_test in (("Training_01.txt", False), ("Testing_01.txt", True))
            for image in (line.strip("/") for line in lines_of(folder / listing, remedy))
        ]
        # Of a/outdoor/indoor the letter goes, and the rest is read from its end.
        words = [" ".join(reversed(kind.split("/")[1:])).replace("_", " ") for kind in kinds]
        about = Description("sun397", tuple(words), ("a photo of a {}.",), remedy)
        return divided(folder / "SUN397", images, about, root, self.split_file)


@dataclass(frozen=True)
class UCF101:
    """UCF101: 101 actions, the middle frame of each of 13,320 videos, as CoOp took them.

    Attributes:
        root: Folder that holds ``ucf101`` with ``UCF-101-midframes`` and ``ucfTrainTestlist``.
        split_file: CoOp's ``split_zhou_UCF101.json``, below the root or anywhere; none takes the
            first official division.
    """

    root: str = "data"
    split_file: str | None = None

    def read(self) -> ImageDataset:
        """Read it; see `pfedmoap.data.dataset.DatasetReader`."""
        root = Path(self.root).expanduser()
        folder = root / "ucf101"
        remedy = remedy_for(
            folder,
            "https://www.crcv.ucf.edu/data/UCF101.php",
            "UCF-101-midframes and ucfTrainTestlist",
        )
        lists = folder / "ucfTrainTestlist"
        numbered = [line.split() for line in lines_of(lists / "classInd.txt", remedy)]
        actions = [words[-1] for words in numbered]
        expect_classes(actions, 101, lists / "classInd.txt", remedy)
        labels = {action: label for label, action in enumerate(actions)}
        images = [
            ListedImage(f"{_parted(action, '_')}/{image}", label, is_test)
            for listing, is_test in (("trainlist01.txt", False), ("testlist01.txt", True))
            for action, image, label in _videos(lists / listing, labels, remedy)
        ]
        spoken = tuple(_parted(action, " ") for action in actions)
        about = Description("ucf101", spoken, ("a photo of a person doing {}.",), remedy)
        return divided(folder / "UCF-101-midframes", images, about, root, self.split_file)


def _videos(
    listing: Path, labels: Mapping[str, int], remedy: str
) -> Iterator[tuple[str, str, int]]:
    """Action, file of the middle frame, and label of each video that a list names."""
    for line in lines_of(listing, remedy):
        action, _, video = line.split()[0].partition("/")
        label = label_in(dict(labels), action, listing, remedy)
        yield action, f"{video.removesuffix('.avi')}.jpg", label


def _parted(action: str, between: str) -> str:
    """Set something between the words of a name such as ApplyEyeMakeup."""
    return between.join(re.findall("[A-Z][^A-Z]*", action))


def _matlab(file: Path, variable: str, remedy: str) -> np.ndarray[Any, Any]:  # of any type
    from scipy.io import loadmat

    try:
        found = loadmat(file, squeeze_me=True)[variable]
    except FileNotFoundError as error:
        raise DataError(f"there is no file {file}. {remedy}") from error
    except Exception as error:  # scipy's reader raises errors of many types
        raise DataError(f"{file} cannot be read ({type(error).__name__}). {remedy}") from error
    return np.atleast_1d(found)


def _cars(annotation: Path, remedy: str) -> list[tuple[str, int]]:
    rows = _matlab(annotation, "annotations", remedy)
    if not {"fname", "class"} <= set(rows.dtype.names or ()):
        raise DataError(f"{annotation} says no class of its images. {remedy}")
    labels = [int(row["class"]) - 1 for row in rows]
    if wrong := [label + 1 for label in labels if not 0 <= label < 196]:
        raise DataError(f"{annotation} has a class {wrong[0]}, expected 1 to 196. {remedy}")
    return [(_text(row["fname"]), label) for row, label in zip(rows, labels, strict=True)]


def _text(value: object) -> str:
    return str(value)
