"""Keep the images of one person together: in one division, and at one client."""

import logging
from collections.abc import Sequence

import numpy as np

from pfedmoap.data.dataset import BoolArray, ImageDataset, IntArray
from pfedmoap.data.division import check_test_fraction
from pfedmoap.data.splits import ClientSplit
from pfedmoap.seeding import numpy_generator

logger = logging.getLogger(__name__)


def grouped_test_mask(
    strata: IntArray, groups: IntArray, test_fraction: float, seed: int
) -> BoolArray:
    """Draw the test division by whole groups, about the same fraction of every stratum.

    A group counts for the stratum that most of its images are in. A stratum of two groups or more
    gets at least one on each side; a single group trains.

    Args:
        strata: Stratum of each image, (n,).
        groups: Group of each image, (n,).
        test_fraction: Part of each stratum's images that is held out, strictly between 0 and 1.
        seed: Seed of the draw.

    Returns:
        Whether each image is a test image, (n,).

    Raises:
        ConfigError: If the fraction is not strictly between 0 and 1.
    """
    check_test_fraction(test_fraction)
    is_test = np.zeros(len(strata), dtype=np.bool_)
    names, sizes = np.unique(groups, return_counts=True)
    home = np.array([_commonest(strata[groups == name]) for name in names])
    for stratum in np.unique(home):
        members = np.flatnonzero(home == stratum)
        order = numpy_generator(seed, "test division by groups", int(stratum)).permutation(members)
        wanted = test_fraction * sizes[members].sum()
        held = np.concatenate([[0], np.cumsum(sizes[order])])[:-1]  # before each group is taken
        taken = order[held + sizes[order] / 2 <= wanted]
        if len(taken) == 0:
            taken = order[:1]
        is_test[np.isin(groups, names[taken[: len(members) - 1]])] = True
    return is_test


def report_divided(name: str, groups: IntArray, is_test: BoolArray) -> None:
    """Warn where images of one group are on both sides of the division."""
    both = np.intersect1d(groups[is_test], groups[~is_test])
    if len(both):
        logger.warning(
            "%s: %d of %d groups have images for training and for testing: clients are tested on "
            "people that they have trained on",
            name,
            len(both),
            len(np.unique(groups)),
        )


def together(dataset: ImageDataset, splits: Sequence[ClientSplit]) -> tuple[ClientSplit, ...]:
    """Give all training images of a group to the client that has most of them.

    Ties go to the lower client. A client may be left without training images.

    Args:
        dataset: The data set, with groups.
        splits: What a partition made.

    Returns:
        The same test images, and the same training images over all clients.
    """
    groups = _groups(dataset)
    owner = np.full(len(dataset), -1, dtype=np.int64)
    for client, split in enumerate(splits):
        owner[split.train] = client
    used = np.flatnonzero(owner >= 0)
    moved = 0
    for group in np.unique(groups[used]):
        mine = used[groups[used] == group]
        home = _commonest(owner[mine])
        moved += int((owner[mine] != home).sum())
        owner[mine] = home
    if moved:
        logger.warning(
            "%d of %d training images were moved, so that nobody's images lie with two clients; "
            "`--sampling.groups split` leaves them where the partition put them",
            moved,
            len(used),
        )
    return tuple(
        ClientSplit(np.flatnonzero(owner == client), split.test)
        for client, split in enumerate(splits)
    )


def report_shared(dataset: ImageDataset, splits: Sequence[ClientSplit]) -> None:
    """Warn where one group's training images lie with several clients."""
    groups = _groups(dataset)
    held = [np.unique(groups[split.train]) for split in splits]
    _, clients = np.unique(np.concatenate(held), return_counts=True)
    if shared := int((clients > 1).sum()):
        logger.warning(
            "%d of %d groups have training images with several clients: each client protects its "
            "own part of them, and the budgets of these clients add up",
            shared,
            len(clients),
        )


def _groups(dataset: ImageDataset) -> IntArray:
    assert dataset.groups is not None  # callers ask for data with groups only
    return dataset.groups


def _commonest(numbers: IntArray) -> int:
    found, counts = np.unique(numbers, return_counts=True)
    return int(found[counts.argmax()])
