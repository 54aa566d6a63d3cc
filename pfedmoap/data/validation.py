"""A share of each client's training images that is held out, to choose options by."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pfedmoap.data.dataset import ImageDataset, IntArray
from pfedmoap.data.splits import ClientSplit
from pfedmoap.errors import PartitionError
from pfedmoap.seeding import numpy_generator

_MOST_NAMED = 8


def hold_out(
    dataset: ImageDataset,
    splits: Sequence[ClientSplit],
    share: float,
    seed: int,
    *,
    named: bool = True,
) -> tuple[ClientSplit, ...]:
    """Put a share of each client's training images in the place of its test images.

    The same share of each class, as nearly as whole images allow, and at least one image on each
    side. A class of which a client has a single image stays in training as long as others are
    left. Where the data name the person of each image, all of a person's images at the client are
    on one side. Nothing depends on test images, which the result does not hold.

    Args:
        dataset: The data set.
        splits: The clients' images.
        share: Part of a client's training images to hold out, strictly between 0 and 1.
        seed: Seed of the draw; each client has a stream of its own.
        named: Whether an error may say which clients have too few images.

    Returns:
        By client, what is left to train with, and what was held out as ``test``.

    Raises:
        PartitionError: A client has fewer than two images, or persons, to divide.
    """
    found, short = [], []
    for client, split in enumerate(splits):
        rng = numpy_generator(seed, "validation", client)
        held = _held_out(dataset, split.train, share, rng)
        if held is None:
            short.append(client)
            continue
        found.append(ClientSplit(split.train[~held], split.train[held]))
    if short:
        what = "image" if dataset.groups is None else "person"
        listed = ", ".join(map(str, short[:_MOST_NAMED])) + (", ..." * (len(short) > _MOST_NAMED))
        which = f"{len(short)} of {len(splits)} clients (clients {listed}) have"
        raise PartitionError(
            f"{which if named else 'some clients have'} fewer than two training {what}s, of which "
            f"sampling.validation {share:g} would hold one out: use more shots or fewer clients"
        )
    return tuple(found)


def _held_out(
    dataset: ImageDataset, train: IntArray, share: float, rng: np.random.Generator
) -> NDArray[np.bool_] | None:
    """Which of a client's training images are held out, (n,); ``None`` where none can be."""
    owners = np.arange(len(train)) if dataset.groups is None else dataset.groups[train]
    units, unit = np.unique(owners, return_inverse=True)  # an image, or all of a person's
    if len(units) < 2:
        return None
    sizes = np.bincount(unit)
    labels = dataset.labels[train]
    classes = np.array([np.bincount(labels[unit == one]).argmax() for one in range(len(units))])
    wanted = max(1, round(share * len(train)))
    chosen: list[int] = []
    held = 0
    for one in _in_turn(classes, rng):
        if held >= wanted or len(chosen) == len(units) - 1:
            break
        chosen.append(one)
        held += int(sizes[one])
    return np.isin(unit, chosen)


def _in_turn(classes: IntArray, rng: np.random.Generator) -> list[int]:
    """Order units so that every beginning holds about the same share of each class.

    The last unit of each class comes after all others.
    """
    key = np.empty(len(classes))
    for label in np.unique(classes):
        members = rng.permutation(np.flatnonzero(classes == label))
        place = (np.arange(len(members)) + rng.random()) / len(members)
        place[-1] += 1.0
        key[members] = place
    return [int(one) for one in np.argsort(key, kind="stable")]
