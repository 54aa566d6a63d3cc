"""Make a data set of an annotation's image files; one error lists everything that is wrong.

Published sets have up to a hundred thousand files, so that decoding each of them at every start, as
for a user's own folder, would take minutes. Here every file's size, first and last 4 KiB are read:
enough to find what an interrupted download or a wrong archive leaves, and for a fingerprint that
changes with the content. A JPEG that is damaged in its middle is found when it is encoded.
"""

import hashlib
import logging
import os
import stat
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from pfedmoap.data.dataset import ImageDataset
from pfedmoap.data.images import decode, opens
from pfedmoap.data.inventory import DataFile, Inventory
from pfedmoap.errors import DataError

logger = logging.getLogger(__name__)

END_BYTES = 4096
NAMED_IN_ERRORS = 5
SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"RIFF", b"II*\0", b"MM\0*")


@dataclass(frozen=True)
class ListedImage:
    """One line of an annotation.

    Attributes:
        path: Path below the listing's folder, with forward slashes.
        label: Its class.
        is_test: Whether it belongs to the test division.
        domain: Its domain's number; 0 where there are no domains.
    """

    path: str
    label: int
    is_test: bool
    domain: int = 0


@dataclass(frozen=True)
class Description:
    """What a listing does not say about a data set.

    Attributes:
        name: Its short name.
        class_names: In label order.
        templates: Prompts for zero-shot classification.
        remedy: What to do if files are missing or damaged.
        domain_names: In the order of their numbers; empty where there are no domains.
        test_only: Whether there is nothing to train on.
    """

    name: str
    class_names: tuple[str, ...]
    templates: tuple[str, ...]
    remedy: str
    domain_names: tuple[str, ...] = ()
    test_only: bool = False


def dataset_of_files(
    folder: Path, images: Sequence[ListedImage], about: Description
) -> ImageDataset:
    """Check every listed file and make the data set of them.

    Args:
        folder: What the paths are relative to.
        images: The files, in the order that the data set will have.
        about: Names and texts.

    Returns:
        The data set.

    Raises:
        DataError: A file is listed twice, missing, empty or no image, or a class has no images.
    """
    _check_listing(images, about)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        ends = list(pool.map(lambda image: _read_ends(folder / image.path), images))
    if problems := [(image, end) for image, end in zip(images, ends, strict=True) if end.problem]:
        kinds = Counter(end.problem for _, end in problems)
        counts = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        shown = "".join(
            f"\n  {image.path}: {end.problem}" for image, end in problems[:NAMED_IN_ERRORS]
        )
        more = "\n  ..." if len(problems) > NAMED_IN_ERRORS else ""
        raise DataError(
            f"{folder}: of {len(images)} listed images, {counts}:{shown}{more}\n{about.remedy}"
        )
    _report_doubles(folder, images, ends)
    digest = hashlib.sha256(b"listed images 1")
    for image, end in zip(images, ends, strict=True):
        digest.update(f"\0{image.path}\0{image.is_test}\0{end.size_bytes}\0{end.digest}".encode())
    return ImageDataset(
        name=about.name,
        class_names=about.class_names,
        labels=np.array([image.label for image in images], dtype=np.int64),
        is_test=np.array([image.is_test for image in images]),
        load=_Loader(tuple(folder / image.path for image in images), about.remedy),
        fingerprint=digest.hexdigest(),
        domains=np.array([image.domain for image in images]) if about.domain_names else None,
        domain_names=about.domain_names,
        templates=about.templates,
        inventory=Inventory(
            folder,
            tuple(
                DataFile(image.path, end.size_bytes, f"ends-{end.digest}")
                for image, end in zip(images, ends, strict=True)
            ),
        ),
    )


def _check_listing(images: Sequence[ListedImage], about: Description) -> None:
    counts = Counter(image.path for image in images)
    if doubles := [path for path, count in counts.items() if count > 1]:
        raise DataError(
            f"data set {about.name!r}: {len(doubles)} files are listed more than once, such as "
            f"{doubles[0]}; a file in both divisions would be trained and tested on.\n"
            f"{about.remedy}"
        )
    divisions = (("training", False), ("test", True))
    for division, wanted in divisions[1:] if about.test_only else divisions:
        found = {image.label for image in images if image.is_test == wanted}
        if lost := [n for i, n in enumerate(about.class_names) if i not in found]:
            raise DataError(
                f"data set {about.name!r}: {len(lost)} of {len(about.class_names)} classes have no "
                f"{division} image: {', '.join(lost[:NAMED_IN_ERRORS])}.\n{about.remedy}"
            )


@dataclass(frozen=True)
class _Ends:
    """The checked beginning and end of a file."""

    size_bytes: int
    digest: str
    problem: str | None


def _read_ends(path: Path) -> _Ends:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return _Ends(0, "", "no regular file")
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            head = file.read(END_BYTES)
            file.seek(max(END_BYTES, size - END_BYTES))
            tail = file.read(END_BYTES)
    except FileNotFoundError:
        return _Ends(0, "", "missing")
    except OSError as error:
        return _Ends(0, "", str(error.strerror or error))
    known = head.startswith(SIGNATURES) or (size > 0 and opens(path))
    problem = None if known else "not an image" if size else "empty"
    return _Ends(size, hashlib.sha256(head + tail).hexdigest(), problem)


def _report_doubles(folder: Path, images: Sequence[ListedImage], ends: Sequence[_Ends]) -> None:
    """Warn of test images whose content is also that of a training image."""
    training: dict[tuple[int, str], list[str]] = {}
    for image, end in zip(images, ends, strict=True):
        if not image.is_test:
            training.setdefault((end.size_bytes, end.digest), []).append(image.path)
    doubles = [
        image.path
        for image, end in zip(images, ends, strict=True)
        if image.is_test
        and any(
            (folder / image.path).read_bytes() == (folder / other).read_bytes()
            for other in training.get((end.size_bytes, end.digest), ())
        )
    ]
    if doubles:
        logger.warning(
            "%s: %d of %d test images are byte for byte the same as a training image, such as %s",
            folder,
            len(doubles),
            sum(image.is_test for image in images),
            doubles[0],
        )


@dataclass(frozen=True)
class _Loader:
    """Decodes image ``i``, and says what to do if that fails."""

    paths: tuple[Path, ...]
    remedy: str

    def __call__(self, index: int) -> Image.Image:
        try:
            return decode(self.paths[index])
        except Exception as error:  # Pillow's decoders raise errors of a dozen types
            raise DataError(
                f"{self.paths[index]} cannot be decoded: {error}\n{self.remedy}"
            ) from error
