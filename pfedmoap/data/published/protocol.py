"""The divisions of the photograph data sets: official, or by one of CoOp's files.

Without a ``split_file`` the division is the data set's official one, with its validation images
among the training images; nothing here chooses a model by them. With one of CoOp's files the
division and the class names are the file's, and its validation images are not used.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pfedmoap.data.dataset import ImageDataset
from pfedmoap.data.published.coop_splits import read_coop_split
from pfedmoap.data.published.files import Description, ListedImage, dataset_of_files
from pfedmoap.data.published.torchvision_source import Source, check_class_names


@dataclass(frozen=True)
class Protocol:
    """How torchvision divides and names a set.

    Attributes:
        name: Its short name.
        source: Where it comes from.
        images: Folder of the images, below the source's.
        class_names: In label order.
        divisions: Whether each of its divisions is for testing.
        named: Whether the annotation names classes.
    """

    name: str
    source: Source
    images: str
    class_names: tuple[str, ...]
    divisions: Mapping[str, bool]
    named: bool = True


def read_protocol(
    protocol: Protocol, options: tuple[str, bool, str | None], templates: tuple[str, ...]
) -> ImageDataset:
    """Read a set that torchvision divides.

    Args:
        protocol: How it does.
        options: The reader's ``root``, ``download`` and ``split_file``.
        templates: Prompts for zero-shot classification.

    Returns:
        The data set.

    Raises:
        DataError: Data are missing, damaged, or contradict each other; names what to do.
    """
    root, source = Path(options[0]).expanduser(), protocol.source
    folder = root / source.folder / protocol.images
    images: list[ListedImage] = []
    for division, is_test in protocol.divisions.items():
        opened: Any = source.open(root, options[1], split=division)  # one of many classes
        if protocol.named:
            check_class_names(source, opened.classes, protocol.class_names)
        images += source.listed(opened, folder, is_test)
    about = Description(protocol.name, protocol.class_names, templates, source.remedy(root))
    return divided(folder, images, about, root, options[2])


def divided(
    folder: Path,
    images: Sequence[ListedImage],
    about: Description,
    root: Path,
    split_file: str | None,
) -> ImageDataset:
    """Take a division as it is, or the one of CoOp's file.

    Args:
        folder: Folder of the images.
        images: All of them, labelled by the annotation and divided in one way.
        about: Names and texts.
        root: What a relative ``split_file`` is relative to.
        split_file: CoOp's file, or ``None``.

    Returns:
        The data set.

    Raises:
        DataError: See `read_coop_split` and `dataset_of_files`.
    """
    if split_file is None:
        return dataset_of_files(folder, images, about)
    labels = {image.path: image.label for image in images}
    path = root / Path(split_file).expanduser()  # an absolute path stays what it is
    chosen, class_names = read_coop_split(path, labels, len(about.class_names))
    renamed = Description(about.name, class_names, about.templates, about.remedy)
    return dataset_of_files(folder, chosen, renamed)
