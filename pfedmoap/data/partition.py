"""Partitions by whole classes and without any skew, and the one place to import all partitions."""

from dataclasses import dataclass
from random import Random
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray

from pfedmoap.config.bounds import Bounds
from pfedmoap.data.clusters import Clusters
from pfedmoap.data.dataset import ImageDataset, IntArray
from pfedmoap.data.dirichlet import Dirichlet, DomainDirichlet
from pfedmoap.data.division import strata_of
from pfedmoap.data.splits import ClientSplit, Partition, check_clients, deal, divisions, finished
from pfedmoap.errors import PartitionError
from pfedmoap.seeding import numpy_generator

__all__ = [
    "IID",
    "ClientSplit",
    "Clusters",
    "Dirichlet",
    "DomainDirichlet",
    "Partition",
    "Pathological",
]


@dataclass(frozen=True)
class Pathological:
    """Every client has its own classes, and no class has two clients (pFedMoAP, section 4.1).

    The shuffled classes are cut into chunks of ``round(classes / clients)`` and the last client
    takes the rest, as in the released code: 37 classes over 10 clients are nine times 4 and once
    1. A client's test set is all test images of its classes. Departure: the released code shuffles
    with the fixed seed 2023 whatever the experiment's seed; here the partition's seed decides,
    unless ``class_seed`` fixes the order and ``shuffle`` asks for the released one.

    Examples:
        >>> Pathological(shuffle="released", class_seed=2023).class_order(5, seed=0).tolist()
        [0, 2, 1, 4, 3]

    Attributes:
        clients: Number of clients.
        class_seed: Fixes which client gets which classes, whatever the seed of the partition;
            none lets that seed decide.
        shuffle: ``own`` random stream, or ``released``: Python's ``random`` with that seed, which
            gives the published clients with ``class_seed`` 2023.
    """

    clients: Annotated[int, Bounds(ge=1, le=100_000)] = 10
    class_seed: int | None = None
    shuffle: Literal["own", "released"] = "own"

    def split(
        self, dataset: ImageDataset, train_indices: IntArray, seed: int
    ) -> tuple[ClientSplit, ...]:
        """Share the classes out; see `Partition.split`."""
        train, test = divisions(dataset, train_indices)
        sizes = chunk_sizes(len(dataset.class_names), self.clients)
        order = self.class_order(len(dataset.class_names), seed)
        chunks = np.split(order, np.cumsum(sizes)[:-1])
        splits = [
            ClientSplit(
                train=train[np.isin(dataset.labels[train], classes)],
                test=test[np.isin(dataset.labels[test], classes)],
            )
            for classes in chunks
        ]
        return finished(dataset, splits)

    def class_order(self, classes: int, seed: int) -> NDArray[np.int64]:
        """Shuffle the classes; see the class.

        Args:
            classes: Their number.
            seed: Seed of the partition.

        Returns:
            The labels in the order in which they are handed out, (classes,).
        """
        fixed = seed if self.class_seed is None else self.class_seed
        if self.shuffle == "own":
            return numpy_generator(fixed, "class order").permutation(classes)
        order = list(range(classes))
        Random(fixed).shuffle(order)
        return np.array(order, dtype=np.int64)


@dataclass(frozen=True)
class IID:
    """Every client has the same mixture of classes and domains, up to rounding.

    Attributes:
        clients: Number of clients.
    """

    clients: Annotated[int, Bounds(ge=1, le=100_000)] = 10

    def split(
        self, dataset: ImageDataset, train_indices: IntArray, seed: int
    ) -> tuple[ClientSplit, ...]:
        """Distribute the images, stratified by class and domain; see `Partition.split`."""
        check_clients(self.clients)
        train, test = divisions(dataset, train_indices)
        strata = strata_of(dataset.labels, dataset.domains)
        train_hands = deal(train, strata, self.clients, numpy_generator(seed, "iid", "train"))
        test_hands = deal(test, strata, self.clients, numpy_generator(seed, "iid", "test"))
        return finished(
            dataset, [ClientSplit(*hands) for hands in zip(train_hands, test_hands, strict=True)]
        )


def chunk_sizes(classes: int, clients: int) -> list[int]:
    """Number of classes of each client under the published chunking.

    Args:
        classes: Number of classes.
        clients: Number of clients.

    Returns:
        ``clients`` sizes, all at least 1, that add up to ``classes``.

    Raises:
        PartitionError: If some client would get no class; names client numbers that work.
    """
    check_clients(clients)
    size = round(classes / clients)
    last = classes - size * (clients - 1)
    if size >= 1 and last >= 1:
        return [size] * (clients - 1) + [last]
    works = [n for n in range(1, classes + 1) if classes - round(classes / n) * (n - 1) >= 1]
    near = sorted(sorted(works, key=lambda n: abs(n - clients))[:4])
    raise PartitionError(
        f"{classes} classes cannot be cut into {clients} chunks of round({classes}/{clients}) = "
        f"{size}: the last client would get {last}. Numbers of clients that work near {clients}: "
        f"{', '.join(map(str, near))}; or let clients share classes (IID, Dirichlet, Clusters)"
    )
