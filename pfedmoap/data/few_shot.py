"""Few-shot sampling: a few training images for each class."""

import logging

import numpy as np

from pfedmoap.data.dataset import ImageDataset, IntArray
from pfedmoap.data.division import strata_of
from pfedmoap.errors import ConfigError
from pfedmoap.seeding import numpy_generator

logger = logging.getLogger(__name__)


def few_shot(dataset: ImageDataset, shots: int | None, seed: int) -> IntArray:
    """Draw at most ``shots`` training images per class, and per domain where there are domains.

    Classes are drawn independently of each other, and fewer shots with the same seed are a subset
    of more shots. The released code of pFedMoAP draws images and class split from one fixed
    stream, so that its experiment seed changes neither; here each has its own seed.

    Args:
        dataset: Where to draw from; test images are never drawn.
        shots: Images per class (and domain); ``None`` takes every training image.
        seed: Seed of the draw, separate from the seed of the partition; 0 is a seed like others.

    Returns:
        Sorted indices into the data set, (m,), int64.

    Raises:
        ConfigError: If ``shots`` is below 1.
    """
    return draw_images(dataset, shots, 0, seed)[0]


def draw_images(
    dataset: ImageDataset, shots: int | None, server_shots: int, seed: int
) -> tuple[IntArray, IntArray]:
    """Draw the clients' training images as `few_shot` does, and others for the server.

    The server's come from the other end of each class's random order: where there are enough
    images, they change nothing for the clients.

    Args:
        dataset: Where to draw from.
        shots: The clients' images per class (and domain); ``None`` takes all but the server's.
        server_shots: The server's images per class (and domain).
        seed: Seed of the draw.

    Returns:
        Sorted indices of the clients' images (m,), and of the server's (s,), int64.

    Raises:
        ConfigError: If a number is out of range, or a class has no image left for the clients.
    """
    training = np.flatnonzero(~dataset.is_test)
    if shots is not None and shots < 1:
        raise ConfigError(f"shots is {shots}, expected at least 1, or none to take all images")
    if server_shots < 0:
        raise ConfigError(f"sampling.server_shots is {server_shots}, expected at least 0")
    if shots is None and server_shots == 0:
        return training, training[:0]
    strata = strata_of(dataset.labels, dataset.domains)
    clients, server, short = [training[:0]], [training[:0]], 0
    for stratum in np.unique(strata[training]):
        members = training[strata[training] == stratum]
        order = numpy_generator(seed, "few-shot", int(stratum)).permutation(members)
        left = len(order) - server_shots
        if left < 1:
            name = dataset.class_names[int(dataset.labels[members[0]])]
            raise ConfigError(
                f"data set {dataset.name!r} has {len(members)} training images of {name!r}: with "
                f"sampling.server_shots {server_shots} none is left for the clients"
            )
        clients.append(order[: left if shots is None else min(shots, left)])
        server.append(order[left:])
        short += shots is not None and left < shots
    if short:
        logger.warning(
            "data set %r: %d of %d classes (per domain) have fewer than %d training images; "
            "all of theirs are taken",
            dataset.name,
            short,
            len(clients) - 1,
            shots,
        )
    return np.sort(np.concatenate(clients)), np.sort(np.concatenate(server))
