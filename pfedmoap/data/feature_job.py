"""Encode one set of views of a data set's images that the store lacks."""

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
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
from pfedmoap.data.feature_store import EntryWriter, FloatArray, read_entry
from pfedmoap.errors import BackboneError, DataError
from pfedmoap.models.clip.preprocessing import Preprocessing
from pfedmoap.seeding import numpy_generator

FORMAT_VERSION = 2  # 2: the centre view is open_clip's own transform
MOST_WORKERS = 8


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

    def features(self, images: Tensor, kinds: tuple[str, ...]) -> dict[str, Tensor]:
        """Encode preprocessed images.

        Args:
            images: A batch on the CPU, (B, 3, H, W) float32; the backbone moves it to its device.
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
        batch_size: Images encoded at a time.
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
            for positions, batch in self._decoded_batches():
                images, views = self._at(positions)
                for kind, values in self._encode(batch, kinds, images).items():
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

    def _decoded_batches(self) -> Iterator[tuple[range, Tensor]]:
        """Decode in threads, one batch ahead of the backbone; memory for two batches."""
        with ThreadPoolExecutor(min(os.cpu_count() or 1, MOST_WORKERS)) as pool:

            def start(first: int) -> tuple[range, list[Future[Tensor]]]:
                positions = range(first, min(first + self.batch_size, self._total))
                pairs = zip(*self._at(positions), strict=True)
                return positions, [pool.submit(self._decode, int(i), int(v)) for i, v in pairs]

            following = start(0)
            while following[0]:
                positions, futures = following
                following = start(positions.stop)
                yield positions, torch.stack([future.result() for future in futures])

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

    def _encode(
        self, batch: Tensor, kinds: tuple[str, ...], images: IntArray
    ) -> dict[str, FloatArray]:
        """Run the backbone and check what it returns: (B, ...) per kind, finite."""
        with torch.no_grad():
            features = self.backbone.features(batch, kinds)
        if missing := set(kinds) - set(features):
            raise BackboneError(f"the backbone gives no features of kind {sorted(missing)}")
        arrays = {}
        for kind in kinds:
            values = features[kind].to("cpu", torch.float32)
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
        return arrays


def _progress_bar(wanted: bool) -> Progress:
    """A bar on stderr; none where stderr is no terminal (rich's FORCE_COLOR forces one)."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    shown = wanted and console.is_terminal
    console.quiet = not shown  # older rich ends a hidden bar with a line
    return Progress(*columns, TimeRemainingColumn(), console=console, disable=not shown)
