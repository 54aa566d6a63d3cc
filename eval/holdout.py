"""Hold out half of the classes, a domain, or some of the clients, from training."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from PIL import Image

from pfedmoap.config.suggestions import none_such
from pfedmoap.data.dataset import ImageDataset, IntArray, chosen_images
from pfedmoap.errors import ConfigError
from pfedmoap.seeding import numpy_generator
from pfedmoap.wire.messages import ClientId

Part = Literal["all", "base", "new"]


def class_part(dataset: ImageDataset, part: Part) -> ImageDataset:
    """Restrict a data set to a part of its classes (CoCoOp, arXiv 2203.05557, section 4.1).

    Args:
        dataset: The data set.
        part: ``base`` is the first half of the classes in label order, the larger one where
            their number is odd; ``new`` is the rest; ``all`` is the data set itself.

    Returns:
        A data set with labels counted from 0 again.

    Raises:
        ConfigError: There are fewer than four classes.
    """
    if part == "all":
        return dataset
    count = len(dataset.class_names)
    if count < 4:
        raise ConfigError(f"{count} classes cannot be halved into base and new ones; 4 at least")
    cut = (count + 1) // 2
    classes = np.arange(cut) if part == "base" else np.arange(cut, count)
    index = np.flatnonzero(np.isin(dataset.labels, classes))
    return ImageDataset(
        name=f"{dataset.name}, {part} classes",
        class_names=tuple(dataset.class_names[i] for i in classes),
        labels=dataset.labels[index] - classes[0],
        is_test=dataset.is_test[index],
        load=_Picked(dataset.load, index),
        fingerprint=hashlib.sha256(f"{dataset.fingerprint} {part}".encode()).hexdigest(),
        domains=None if dataset.domains is None else dataset.domains[index],
        domain_names=dataset.domain_names,
        templates=dataset.templates,
        unreadable=dataset.unreadable,
        groups=None if dataset.groups is None else dataset.groups[index],
        inventory=dataset.inventory and dataset.inventory.of(index),
    )


def refuse_test_only(dataset: ImageDataset) -> None:
    """Refuse to train on data that have test images alone, such as ImageNetV2.

    Raises:
        ConfigError: These have.
    """
    if dataset.is_test.all():
        raise ConfigError(
            f"{dataset.name} has test images alone: train on another data set, and test on this "
            "one with `pfedmoap evaluate RUN --on`, or `elsewhere` in a comparison"
        )


def domain_part(dataset: ImageDataset, domain: str, *, left_out: bool) -> ImageDataset:
    """Restrict a data set to one domain, or to all others.

    Args:
        dataset: The data set.
        domain: The domain's name.
        left_out: Whether to take this domain, and not the others.

    Returns:
        A data set with the same classes and fewer domains.

    Raises:
        ConfigError: There is no such domain, or no other one.
    """
    if dataset.domains is None:
        raise ConfigError(
            f"sampling.left_out_domain is {domain!r}, but {dataset.name} has no domains: use data "
            "in a tree root/domain/class, or a CSV file with a column domain"
        )
    if domain not in dataset.domain_names:
        raise ConfigError(
            f"sampling.left_out_domain: {none_such('domain', domain, dataset.domain_names)}"
        )
    if len(dataset.domain_names) < 2:
        raise ConfigError(f"{dataset.name} has no domain but {domain}, which cannot be left out")
    number = dataset.domain_names.index(domain)
    index = np.flatnonzero((dataset.domains == number) == left_out)
    kept = (domain,) if left_out else tuple(n for n in dataset.domain_names if n != domain)
    moved = np.array([kept.index(n) if n in kept else 0 for n in dataset.domain_names])
    what = f"{domain} alone" if left_out else f"without {domain}"
    part = chosen_images(dataset, index)
    return replace(
        part,
        name=f"{dataset.name}, {what}",
        domains=moved[dataset.domains[index]],
        domain_names=kept,
        fingerprint=hashlib.sha256(f"{dataset.fingerprint} {what}".encode()).hexdigest(),
    )


def validation_note(sections: Mapping[str, Any]) -> str | None:
    """Say what a run was tested on, where that is not test images; ``None`` where it is.

    Args:
        sections: The run's configuration, also one of a version without ``sampling.validation``.
    """
    share = sections["sampling"].get("validation", 0.0)
    if not share:
        return None
    return (
        f"All figures are of {100 * share:g}% of each client's training images, held out of "
        "training to choose options by (sampling.validation); no test image was used."
    )


def unseen_clients(clients: Iterable[ClientId], count: int, seed: int) -> frozenset[ClientId]:
    """Draw the clients that never take part.

    Args:
        clients: All clients.
        count: How many to hold out.
        seed: The partition's seed.

    Returns:
        The held-out clients.

    Raises:
        ConfigError: No client would be left to train.
    """
    everybody = sorted(clients)
    if not 0 <= count < len(everybody):
        raise ConfigError(
            f"sampling.unseen_clients is {count}, expected 0 to {len(everybody) - 1}: "
            f"there are {len(everybody)} clients and one at least must train"
        )
    chosen = numpy_generator(seed, "unseen clients").permutation(len(everybody))[:count]
    return frozenset(everybody[i] for i in chosen)


@dataclass(frozen=True)
class _Picked:
    """Loads some of the images of another data set."""

    load: Callable[[int], Image.Image]
    index: IntArray

    def __call__(self, position: int) -> Image.Image:
        return self.load(int(self.index[position]))
