"""Any image classification set of the Hugging Face hub, or saved by its library on this machine."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pfedmoap.config.bounds import Fraction
from pfedmoap.data.dataset import ImageDataset, IntArray
from pfedmoap.data.division import strata_of, stratified_test_mask
from pfedmoap.data.folder import human_name
from pfedmoap.data.images import decode
from pfedmoap.errors import DataError

INSTALL = "pip install 'pfedmoap[huggingface]'"


@dataclass(frozen=True)
class HuggingFace:
    """A set with a column of images and one of labels.

    Attributes:
        path: Name on the hub such as ``org/name``, or a folder that ``save_to_disk`` or the
            library's image folder loader understands.
        subset: Its configuration, where it has several.
        revision: Branch, tag or commit on the hub; give a commit to be sure of the data.
        train_split: Split to train on.
        test_split: Split to test on; none draws test images from every class (and domain) alike.
        image_column: Column of images.
        label_column: Column of class labels, or of class names.
        domain_column: Column of domain names or numbers; none for data without domains.
        test_fraction: Part that is held out, without a ``test_split``.
        seed: Seed of that division.
    """

    path: str
    subset: str | None = None
    revision: str | None = None
    train_split: str = "train"
    test_split: str | None = "test"
    image_column: str = "image"
    label_column: str = "label"
    domain_column: str | None = None
    test_fraction: Fraction = 0.3
    seed: int = 0

    def read(self) -> ImageDataset:
        """Read it; see `pfedmoap.data.dataset.DatasetReader`."""
        names = [self.train_split, *([self.test_split] if self.test_split else [])]
        parts = [self._open(name) for name in names]
        class_names, labels = _coded(parts, self.label_column, self.path)
        domain_names: tuple[str, ...] = ()
        domains: IntArray | None = None
        if self.domain_column is not None:
            domain_names, domains = _coded(parts, self.domain_column, self.path)
        if self.test_split is None:
            is_test = stratified_test_mask(
                strata_of(labels, domains), self.test_fraction, self.seed
            )
        else:
            is_test = np.arange(len(labels)) >= len(parts[0])
        # The library derives this fingerprint from the data files and every step since.
        identity = repr([[part._fingerprint for part in parts], self.image_column])
        return ImageDataset(
            name=Path(self.path).name,
            class_names=class_names,
            labels=labels,
            is_test=is_test,
            load=_Rows(tuple(parts), self.image_column),
            fingerprint=hashlib.sha256(b"hugging face 1" + identity.encode()).hexdigest(),
            domains=domains,
            domain_names=domain_names,
        )

    def _open(self, split: str) -> Any:
        """Load one split; its type is the optional library's, hence ``Any``."""
        try:
            library: Any = import_module("datasets")
        except ImportError as error:
            raise DataError(f"data hf needs the library `datasets`: {INSTALL}") from error
        try:
            if (Path(self.path) / "dataset_dict.json").is_file():
                opened = library.load_from_disk(self.path)[split]
            else:
                opened = library.load_dataset(
                    self.path, self.subset, split=split, revision=self.revision
                )
        except Exception as error:  # the library raises what its dozen back ends raise
            raise DataError(
                f"split {split!r} of {self.path!r} cannot be loaded ({type(error).__name__}: "
                f"{error}). If this machine has no network, load it once on one that has and copy "
                f"~/.cache/huggingface, or save it there with save_to_disk and give that folder"
            ) from error
        wanted = [self.image_column, self.label_column, self.domain_column]
        if missing := [name for name in wanted if name and name not in opened.column_names]:
            raise DataError(
                f"split {split!r} of {self.path!r} has no column {missing[0]!r}, only "
                f"{', '.join(opened.column_names)}"
            )
        return opened


def _coded(parts: Sequence[Any], column: str, path: str) -> tuple[tuple[str, ...], IntArray]:
    """Names and numbers of a column of classes: those it declares, or its texts in sorted order."""
    values = [value for part in parts for value in part[column]]
    declared: list[list[str] | None] = [
        getattr(part.features[column], "names", None) for part in parts
    ]
    if declared[0] is not None:
        if any(names != declared[0] for names in declared):
            raise DataError(f"the splits of {path!r} declare different classes in {column!r}")
        if hidden := sum(value is None or value < 0 for value in values):
            raise DataError(f"{hidden} images of {path!r} have no {column}: choose another split")
        return tuple(human_name(name) for name in declared[0]), np.array(values, dtype=np.int64)
    if not all(isinstance(value, str) for value in values):
        raise DataError(
            f"column {column!r} of {path!r} holds numbers without names: cast it to ClassLabel, "
            f"for a prompt needs to know what a class is called"
        )
    order = sorted(set(values))
    numbers = {name: number for number, name in enumerate(order)}
    return tuple(human_name(n) for n in order), np.array([numbers[v] for v in values], np.int64)


@dataclass(frozen=True)
class _Rows:
    """Decodes image ``i`` of several splits, one after the other."""

    parts: tuple[Any, ...]
    column: str

    def __call__(self, index: int) -> Image.Image:
        for part in self.parts:
            if index < len(part):
                return decode(part[index][self.column])
            index -= len(part)
        raise DataError(f"there is no image {index} behind the last one")
