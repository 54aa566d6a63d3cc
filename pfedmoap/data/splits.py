"""The result of a partition of images over clients, and helpers that all partitions share."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pfedmoap.data.dataset import ImageDataset, IntArray
from pfedmoap.errors import DataError, PartitionError


@dataclass(frozen=True)
class ClientSplit:
    """The images of one client, as sorted indices into the data set.

    Attributes:
        train: Training images, (n_train,); a client without any is an error unless the run is
            private, see `refuse_idle`.
        test: Test images, (n_test,), at least one.
    """

    train: IntArray
    test: IntArray


class Partition(Protocol):
    """A frozen dataclass of options with one job: share the images out over clients."""

    def split(
        self, dataset: ImageDataset, train_indices: IntArray, seed: int
    ) -> tuple[ClientSplit, ...]:
        """Share the images out; client ``i`` gets entry ``i``, and no image is used twice.

        Args:
            dataset: The data set; its test images are shared out as well.
            train_indices: The training images to share out, e.g. from `few_shot`.
            seed: Seed of the partition; 0 is a seed like others.

        Returns:
            One `ClientSplit` for each client; the same for the same arguments.

        Raises:
            PartitionError: If the data cannot be split in this way; names figures and advice.
        """
        ...


def divisions(dataset: ImageDataset, train_indices: IntArray) -> tuple[IntArray, IntArray]:
    """Check what is to be shared out.

    Args:
        dataset: The data set.
        train_indices: Indices of the training images to share out.

    Returns:
        The training indices and all test indices, both sorted.

    Raises:
        DataError: If a training index occurs twice, is out of range or is a test image.
    """
    train = np.unique(np.asarray(train_indices, dtype=np.int64))
    if len(train) != len(train_indices):
        raise DataError(f"{len(train_indices) - len(train)} training indices occur twice")
    if len(train) and (train[0] < 0 or train[-1] >= len(dataset)):
        raise DataError(
            f"training indices span [{train[0]}, {train[-1]}], "
            f"but data set {dataset.name!r} has {len(dataset)} images"
        )
    if leaked := int(dataset.is_test[train].sum()):
        raise DataError(f"{leaked} of {len(train)} training indices are test images")
    return train, np.flatnonzero(dataset.is_test)


def deal(
    indices: IntArray, strata: IntArray, hands: int, rng: np.random.Generator
) -> list[IntArray]:
    """Distribute images in turn, sorted by stratum, so that every part is a stratified sample.

    The sizes of two parts differ by at most one, in total and in every stratum.

    Args:
        indices: Images to deal, (m,).
        strata: Stratum of every image of the data set, (n,).
        hands: Number of parts.
        rng: Random stream that shuffles the images and the order of the strata.

    Returns:
        ``hands`` arrays of indices, together exactly ``indices``.
    """
    shuffled = rng.permutation(indices)
    numbers, position = np.unique(strata[shuffled], return_inverse=True)
    order = rng.permutation(len(numbers))[position]
    cards = shuffled[np.argsort(order, kind="stable")]
    return [cards[hand::hands] for hand in range(hands)]


def largest_remainder(
    weights: NDArray[np.float64], total: int, rng: np.random.Generator
) -> IntArray:
    """Round proportions to whole numbers that add up exactly (Hamilton's method).

    Args:
        weights: Non-negative weights with a positive sum, (k,).
        total: What the result adds up to.
        rng: Breaks ties between equal remainders, so that no client is favoured by its number.

    Returns:
        Counts, (k,), each less than one away from its exact share.
    """
    quota = np.round(weights / weights.sum() * total, 9)
    counts: IntArray = np.floor(quota).astype(np.int64)
    order = np.lexsort((rng.random(len(counts)), counts - quota))
    counts[order[: total - counts.sum()]] += 1
    return counts


def finished(dataset: ImageDataset, splits: Sequence[ClientSplit]) -> tuple[ClientSplit, ...]:
    """Sort each client's indices, and refuse a client without test images.

    Raises:
        PartitionError: If a client has no test image; names the clients.
    """
    _refuse_empty(dataset, splits, "test")
    return tuple(ClientSplit(np.sort(one.train), np.sort(one.test)) for one in splits)


def refuse_idle(dataset: ImageDataset, splits: Sequence[ClientSplit]) -> None:
    """Raise an error for a client without training images, in a run that is not private.

    In a private run such a client takes part like any other: an error would reveal whether a
    client has an example.

    Raises:
        PartitionError: If a client has no training image; names the clients.
    """
    _refuse_empty(dataset, splits, "train")


def _refuse_empty(dataset: ImageDataset, splits: Sequence[ClientSplit], division: str) -> None:
    empty = [client for client, one in enumerate(splits) if not len(getattr(one, division))]
    if empty:
        total = sum(len(getattr(one, division)) for one in splits)
        raise PartitionError(
            f"{len(empty)} of {len(splits)} clients get no {division} image "
            f"(clients {_listed(empty)}): {total} {division} images of {dataset.name!r} are "
            f"shared out. Use fewer clients, more shots or another test fraction"
        )


def check_clients(clients: int) -> None:
    """Refuse a partition over no clients at all."""
    if clients < 1:
        raise PartitionError(f"the number of clients is {clients}, expected at least 1")


def _listed(numbers: Sequence[int], most: int = 8) -> str:
    text = ", ".join(str(number) for number in numbers[:most])
    return text if len(numbers) <= most else f"{text}, ..."
