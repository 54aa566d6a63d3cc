"""Image features of a frozen backbone: computed once, kept on disk, mapped into memory."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pfedmoap.data.dataset import ImageDataset
from pfedmoap.data.feature_job import FeatureExtractor, FeatureJob
from pfedmoap.data.feature_store import FloatArray
from pfedmoap.data.suitability import warn_of_photographs
from pfedmoap.errors import DataError

__all__ = ["FeatureExtractor", "FeatureTable", "cached_features"]


@dataclass(frozen=True)
class FeatureTable:
    """Features of every image of one data set, float32, mapped from disk and read-only.

    Attributes:
        centres: By kind, features of the centre view, (n, 1, ...).
        augmented: By kind, features of the augmented views, (n, V, ...), NaN where the image is
            a test image; ``None`` where no augmented views were asked for.
    """

    centres: Mapping[str, FloatArray]
    augmented: Mapping[str, FloatArray] | None = None

    def centre(self, kind: str = "image") -> FloatArray:
        """Features of every image's fixed centre view, (n, ...): what to test on."""
        return _of_kind(self.centres, kind)[:, 0]

    def train_views(self, kind: str = "image") -> FloatArray:
        """Features to train on, (n, V, ...).

        The V augmented views, NaN for test images, which have none; or the centre view (V = 1) of
        all images where no augmented views were asked for.
        """
        return _of_kind(self.centres if self.augmented is None else self.augmented, kind)


def cached_features(
    dataset: ImageDataset,
    backbone: FeatureExtractor,
    cache_dir: Path,
    *,
    kinds: tuple[str, ...] = ("image",),
    views: int = 0,
    batch_size: int = 64,
    seed: int = 0,
    progress: bool = True,
) -> FeatureTable:
    """Load the features of a data set, or compute and keep those that are not there yet.

    The key of each stored array is made of the backbone's weights, its preprocessing, the data and
    the views, so that a change in any of them computes anew. Safe if several runs do this at once.

    Args:
        dataset: The images.
        backbone: The frozen encoder.
        cache_dir: Folder of the cache, made if absent.
        kinds: Kinds of features.
        views: Augmented views of every training image; 0 trains on the centre view.
        batch_size: Images encoded at a time.
        seed: Seed of the augmentation; view v of image i is the same whatever the order.
        progress: Whether to show a bar on a terminal.

    Returns:
        The features, one array for each kind, float32.

    Raises:
        DataError: If an image can no longer be read, or an argument is out of range.
        BackboneError: If a feature is missing or not finite; names the image.
    """
    if views < 0 or batch_size < 1 or not kinds:
        raise DataError(
            f"views is {views}, batch_size {batch_size} and kinds {kinds}; expected views of at "
            f"least 0, batch_size of at least 1 and at least one kind"
        )
    warn_of_photographs(dataset, backbone)
    everything = np.arange(len(dataset))
    job = FeatureJob(dataset, backbone, cache_dir, everything, 1, None, batch_size, progress)
    centres = job.load_or_compute(kinds)
    if views == 0:
        return FeatureTable(centres)
    training = np.flatnonzero(~dataset.is_test)
    job = FeatureJob(dataset, backbone, cache_dir, training, views, seed, batch_size, progress)
    return FeatureTable(centres, job.load_or_compute(kinds))


def _of_kind(arrays: Mapping[str, FloatArray], kind: str) -> FloatArray:
    if kind not in arrays:
        raise DataError(f"there are no features of kind {kind!r}, only of {sorted(arrays)}")
    return arrays[kind]
