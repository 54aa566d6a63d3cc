"""ImageNet and the four sets that test how well what was trained on it carries over."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pfedmoap.data.dataset import ImageDataset
from pfedmoap.data.published.files import Description, ListedImage, dataset_of_files
from pfedmoap.data.published.layouts import COOP, expect_classes, images_in, lines_of
from pfedmoap.errors import DataError

CLASSES = 1000
TEMPLATES = ("a photo of a {}.",)
_NAMES = "classnames.txt"


@dataclass(frozen=True)
class ImageNet:
    """ImageNet (ILSVRC 2012): 1,000 classes, tested on its 50,000 validation images.

    Class names are those of CoOp's ``classnames.txt``: a line for each class, as
    ``n01440764 tench``.

    Attributes:
        root: Folder that holds ``imagenet`` with ``classnames.txt``, ``images/train`` and
            ``images/val``, each with a folder for each class.
    """

    root: str = "data"

    def read(self) -> ImageDataset:
        """Read it; see `pfedmoap.data.dataset.DatasetReader`."""
        folder = Path(self.root).expanduser() / "imagenet"
        remedy = _remedy(folder, "https://www.image-net.org", f"{_NAMES} and images/train, val")
        wordnet, spoken = _class_names(folder / _NAMES, remedy)
        images = [
            *_listed(folder / "images", "train", wordnet, remedy, is_test=False),
            *_listed(folder / "images", "val", wordnet, remedy, is_test=True),
        ]
        return dataset_of_files(
            folder / "images", images, Description("imagenet", spoken, TEMPLATES, remedy)
        )


@dataclass(frozen=True)
class ImageNetV2:
    """ImageNetV2, matched frequency: 10 new images of each class of ImageNet, to test on.

    Attributes:
        root: Folder that holds ``imagenetv2`` with ``classnames.txt`` and
            ``imagenetv2-matched-frequency-format-val``, whose folders are called 0 to 999.
    """

    root: str = "data"

    def read(self) -> ImageDataset:
        """Read it; see `pfedmoap.data.dataset.DatasetReader`."""
        folder = Path(self.root).expanduser() / "imagenetv2"
        inside = "imagenetv2-matched-frequency-format-val"
        remedy = _remedy(folder, "https://github.com/modestyachts/ImageNetV2", inside)
        _, spoken = _class_names(folder / _NAMES, remedy)
        numbers = [str(label) for label in range(CLASSES)]
        return _tested("imagenetv2", folder, inside, numbers, spoken, remedy)


@dataclass(frozen=True)
class ImageNetSketch:
    """ImageNet-Sketch: 50 sketches of each class of ImageNet, to test on.

    Attributes:
        root: Folder that holds ``imagenet-sketch`` with ``classnames.txt`` and ``images``.
    """

    root: str = "data"

    def read(self) -> ImageDataset:
        """Read it; see `pfedmoap.data.dataset.DatasetReader`."""
        folder = Path(self.root).expanduser() / "imagenet-sketch"
        remedy = _remedy(folder, "https://github.com/HaohanWang/ImageNet-Sketch", "images")
        wordnet, spoken = _class_names(folder / _NAMES, remedy)
        return _tested("imagenet_sketch", folder, "images", wordnet, spoken, remedy)


@dataclass(frozen=True)
class ImageNetA:
    """ImageNet-A: hard photographs of 200 classes of ImageNet, to test on.

    Attributes:
        root: Folder that holds ``imagenet-adversarial`` with ``classnames.txt`` and ``imagenet-a``.
    """

    root: str = "data"

    def read(self) -> ImageDataset:
        """Read it; see `pfedmoap.data.dataset.DatasetReader`."""
        return _of_200("imagenet_a", Path(self.root), "imagenet-adversarial", "imagenet-a")


@dataclass(frozen=True)
class ImageNetR:
    """ImageNet-R: art, toys and other renditions of 200 classes of ImageNet, to test on.

    Attributes:
        root: Folder that holds ``imagenet-rendition`` with ``classnames.txt`` and ``imagenet-r``.
    """

    root: str = "data"

    def read(self) -> ImageDataset:
        """Read it; see `pfedmoap.data.dataset.DatasetReader`."""
        return _of_200("imagenet_r", Path(self.root), "imagenet-rendition", "imagenet-r")


def _of_200(name: str, root: Path, outer: str, inside: str) -> ImageDataset:
    """Read a set that has 200 of the classes: those whose folders are there, in sorted order."""
    folder = root.expanduser() / outer
    remedy = _remedy(folder, "https://github.com/hendrycks", inside)
    wordnet, spoken = _class_names(folder / _NAMES, remedy)
    if not (folder / inside).is_dir():
        raise DataError(f"there is no folder {folder / inside}. {remedy}")
    found = sorted(path.name for path in (folder / inside).iterdir() if path.is_dir())
    words = dict(zip(wordnet, spoken, strict=True))
    if foreign := [kind for kind in found if kind not in words]:
        raise DataError(f"{folder / inside} has a folder {foreign[0]!r} that is no class")
    expect_classes(found, 200, folder / inside, remedy)
    return _tested(name, folder, inside, found, tuple(words[kind] for kind in found), remedy)


def _tested(
    name: str,
    folder: Path,
    inside: str,
    kinds: Sequence[str],
    spoken: tuple[str, ...],
    remedy: str,
) -> ImageDataset:
    """Make a set that has test images alone."""
    images = [*_listed(folder, inside, kinds, remedy, is_test=True)]
    about = Description(name, spoken, TEMPLATES, remedy, test_only=True)
    return dataset_of_files(folder, images, about)


def _listed(
    folder: Path, part: str, kinds: Sequence[str], remedy: str, *, is_test: bool
) -> Iterator[ListedImage]:
    for label, kind in enumerate(kinds):
        for file in images_in(folder / part / kind, remedy):
            yield ListedImage(f"{part}/{kind}/{file}", label, is_test)


def _class_names(file: Path, remedy: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """WordNet's ids of the classes and their names.

    Of equal names (CoOp's file has two missiles) all but the first have the id behind: a prompt
    that two classes share could never be right for the second one.
    """
    lines = [line.partition(" ") for line in lines_of(file, remedy)]
    ids = [wordnet for wordnet, _, _ in lines]
    expect_classes(ids, CLASSES, file, remedy)
    words = [spoken.strip() for _, _, spoken in lines]
    if missing := [wordnet for wordnet, spoken in zip(ids, words, strict=True) if not spoken]:
        raise DataError(f"{file} has no name for {missing[0]}. {remedy}")
    return tuple(ids), tuple(
        spoken if words.index(spoken) == place else f"{spoken} ({wordnet})"
        for place, (wordnet, spoken) in enumerate(zip(ids, words, strict=True))
    )


def _remedy(folder: Path, site: str, inside: str) -> str:
    return (
        f"Fetch it from {site} as {COOP} lays it out: {folder} holds {inside} and {_NAMES}, which "
        "is linked there"
    )
