"""Encode one set of views of a data set's images that the store lacks."""

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from pfedmoap.data.dataset import ImageDataset, IntArray
from pfedmoap.data.decoding import decoded_batches
from pfedmoap.data.feature_store import EntryWriter, FloatArray, read_entry
from pfedmoap.errors import BackboneError, DataError
from pfedmoap.models.clip.preprocessing import Preprocessing
from pfedmoap.models.transfer import OnItsWay, Transfer, images_at_once
from pfedmoap.seeding import numpy_generator

FORMAT_VERSION = 2  # 2: the centre view is open_clip's own transform
MOST_BATCH_BYTES = 2**28
"""Most memory of one batch of decoded images; a few of them exist at a time."""


class FeatureExtractor(Protocol):
    """The part of a backbone that the feature cache needs."""

    @property
    def fingerprint(self) -> str:
        """Identifies the weights; part of the cache's key."""
        ...

    @property
    def preprocessing(self) -> Preprocessing:
        """The preprocessing of the backbone's images."""
        ...

    @property
    def device(self) -> torch.device:
        """Where it encodes."""
        ...

    def features(self, images: Tensor, kinds: tuple[str, ...]) -> dict[str, Tensor]:
        """Encode preprocessed images.

        Args:
            images: A batch on the backbone's device, (B, 3, H, W) float32.
            kinds: What to return: ``image`` for (B, D) of unit norm, ``patches`` for (B, M, D),
                ``pixels`` for the images themselves.

        Returns:
            One tensor of first size B for each kind.
        """
        ...


@dataclass(frozen=True)
class FeatureJob:
    """One set of views of some images of a data set.

    Attributes:
        dataset: The images.
        backbone: The frozen encoder.
        cache_dir: Folder of the store.
        images: Which images, (m,).
        views: Views of each image.
        augmentation_seed: Seed of the augmented views, or ``None`` for the centre view.
        batch_size: Images encoded at a time; on a GPU, as many times more as it has memory for.
        progress: Whether to show a bar on a terminal.
    """

    dataset: ImageDataset
    backbone: FeatureExtractor
    cache_dir: Path
    images: IntArray
    views: int
    augmentation_seed: int | None
    batch_size: int
    progress: bool

    def load_or_compute(self, kinds: tuple[str, ...]) -> dict[str, FloatArray]:
        """Return the features of each kind, (n, views, ...), with NaN for other images."""
        found = {kind: self._read(kind) for kind in kinds}
        arrays = {kind: array for kind, array in found.items() if array is not None}
        missing = tuple(kind for kind in kinds if kind not in arrays)
        return arrays | self._compute(missing) if missing else arrays

    def _key(self, kind: str) -> str:
        parts: list[object] = [FORMAT_VERSION, kind, self.backbone.fingerprint]
        parts += [self.backbone.preprocessing, self.dataset.fingerprint, len(self.dataset)]
        if self.augmentation_seed is not None:
            which = hashlib.sha256(self.images.tobytes()).hexdigest()
            parts += [self.views, self.augmentation_seed, which]
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def _folder(self, kind: str) -> Path:
        return self.cache_dir / self._key(kind)[:32]

    def _read(self, kind: str) -> FloatArray | None:
        return read_entry(self._folder(kind), self._key(kind), len(self.dataset))

    def _writer(self, kind: str) -> EntryWriter:
        augmented = self.views if self.augmentation_seed is not None else 0
        about = {"dataset": self.dataset.name, "kind": kind, "augmented_views": augmented}
        about["data"] = self.dataset.fingerprint
        leading = (len(self.dataset), self.views)
        return EntryWriter(self._folder(kind), self._key(kind), leading, about)

    def _compute(self, kinds: tuple[str, ...]) -> dict[str, FloatArray]:
        with ExitStack() as stack:
            writers = {kind: stack.enter_context(self._writer(kind)) for kind in kinds}
            bar = stack.enter_context(_progress_bar(self.progress))
            task = bar.add_task(f"features of {self.dataset.name}", total=self._total)
            for positions, arrays in self._encoded_batches(kinds):
                images, views = self._at(positions)
                for kind, values in arrays.items():
                    writers[kind].write(images, views, values)
                bar.advance(task, len(positions))
            return {kind: writer.publish() for kind, writer in writers.items()}

    @property
    def _total(self) -> int:
        return len(self.images) * self.views

    def _at(self, positions: range) -> tuple[IntArray, IntArray]:
        """Image and view of each position in the order of computation."""
        rows, views = np.divmod(np.arange(positions.start, positions.stop), self.views)
        return self.images[rows], views

    def _of(self, position: int) -> tuple[int, int]:
        """Image and view of one position."""
        row, view = divmod(position, self.views)
        return int(self.images[row]), view

    def _encoded_batches(
        self, kinds: tuple[str, ...]
    ) -> Iterator[tuple[range, dict[str, FloatArray]]]:
        """Decode, copy and encode beside each other: a batch is read when the next one is begun."""
        backbone = self.backbone
        transfer = Transfer(backbone.device)
        shape = (3, backbone.preprocessing.size, backbone.preprocessing.size)
        size = images_at_once(
            lambda images: self._features(images, kinds),
            shape,
            transfer.device,
            at_least=self.batch_size,
            most_bytes=MOST_BATCH_BYTES,
        )
        batches = decoded_batches(
            lambda position: self._decode(*self._of(position)),
            self._total,
            size,
            shape,
            pinned=transfer.pinned,
        )
        begun: list[tuple[range, OnItsWay]] = []
        for positions, batch in batches:
            found = self._features(transfer.there(batch), kinds)
            begun.append((positions, transfer.back(found)))
            if len(begun) > 1:
                yield self._finish(*begun.pop(0), kinds)
        for last in begun:
            yield self._finish(*last, kinds)

    def _decode(self, image: int, view: int) -> Tensor:
        try:
            pixels = self.dataset.load(image)
        except OSError as error:
            raise DataError(
                f"image {image} of data set {self.dataset.name!r} can no longer be read: {error}"
            ) from error
        if self.augmentation_seed is None:
            return self.backbone.preprocessing.centre(pixels)
        rng = numpy_generator(self.augmentation_seed, "augmentation", image, view)
        return self.backbone.preprocessing.augmented(pixels, rng)

    def _features(self, batch: Tensor, kinds: tuple[str, ...]) -> dict[str, Tensor]:
        """Run the backbone: (B, ...) per kind."""
        with torch.no_grad():
            features = self.backbone.features(batch, kinds)
        if missing := set(kinds) - set(features):
            raise BackboneError(f"the backbone gives no features of kind {sorted(missing)}")
        return {kind: features[kind] for kind in kinds}

    def _finish(
        self, positions: range, on_its_way: OnItsWay, kinds: tuple[str, ...]
    ) -> tuple[range, dict[str, FloatArray]]:
        """Wait for a batch's features and check them: one an image, finite."""
        images, _ = self._at(positions)
        arrays = {}
        for kind in kinds:
            values = on_its_way.wait()[kind]
            if len(values) != len(images):
                raise BackboneError(
                    f"the backbone gives {len(values)} features of kind {kind!r} for "
                    f"{len(images)} images"
                )
            bad = ~torch.isfinite(values.flatten(1)).all(dim=1)
            if bad.any():
                raise BackboneError(
                    f"the backbone's {kind!r} features of image {images[bad.numpy()][0]} of data "
                    f"set {self.dataset.name!r} are not finite: check that image, or use float32"
                )
            arrays[kind] = values.numpy()
        return positions, arrays


def _progress_bar(wanted: bool) -> Progress:
    """A bar on stderr; none where stderr is no terminal (rich's FORCE_COLOR forces one)."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    shown = wanted and console.is_terminal
    console.quiet = not shown  # older rich ends a hidden bar with a line
    return Progress(*columns, TimeRemainingColumn(), console=console, disable=not shown)
