"""Label skew in two levels: over groups of like classes, and inside them."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from pfedmoap.config.bounds import Bounds
from pfedmoap.data.dataset import ImageDataset, IntArray
from pfedmoap.data.splits import ClientSplit, check_clients, divisions, finished
from pfedmoap.errors import PartitionError
from pfedmoap.seeding import numpy_generator


@dataclass(frozen=True)
class Superclasses:
    """Each client draws its images one by one, without putting any back.

    It draws a superclass by proportions from a Dirichlet distribution of its own, then a class
    inside it by those of a second one, then an image of that class, training and test images
    together; an empty class, or superclass, is left out from there on. All clients get the same
    number of images, so that clients of CIFAR-100 have 600 of 60,000, about 500 for training.
    pFedMoAP's released code divides CIFAR-100 so (Pachinko allocation, arXiv 2003.00295), with a
    fixed seed in place of the partition's.

    Attributes:
        clients: Number of clients.
        alpha: Concentration over superclasses; small ones leave a client with few of them.
        inner_alpha: Concentration over the classes of a superclass.
    """

    clients: Annotated[int, Bounds(ge=1, le=100_000)] = 100
    alpha: Annotated[float, Bounds(ge=1e-4, le=1e6)] = 0.5
    inner_alpha: Annotated[float, Bounds(ge=1e-4, le=1e6)] = 10.0

    def split(
        self, dataset: ImageDataset, train_indices: IntArray, seed: int
    ) -> tuple[ClientSplit, ...]:
        """Share the images out; see `Partition.split`."""
        check_clients(self.clients)
        if dataset.superclasses is None:
            raise PartitionError(
                f"classes of data set {dataset.name!r} have no superclasses: use "
                "`--partition dirichlet`, or CIFAR-100"
            )
        train, test = divisions(dataset, train_indices)
        rng = numpy_generator(seed, "superclasses")
        images = rng.permutation(np.concatenate([train, test]))
        each = len(images) // self.clients
        if each == 0:
            raise PartitionError(
                f"{len(images)} images cannot give {self.clients} clients one each; use fewer "
                "clients"
            )
        of_class = [images[dataset.labels[images] == c] for c in range(len(dataset.class_names))]
        group = np.asarray(dataset.superclasses)
        taken = np.zeros(len(of_class), dtype=np.int64)
        splits = []
        for _ in range(self.clients):
            before = taken.copy()
            self._draw(each, group, np.array([len(own) for own in of_class]) - taken, taken, rng)
            mine = np.concatenate(
                [own[a:b] for own, a, b in zip(of_class, before, taken, strict=True)]
            )
            held_out = dataset.is_test[mine]
            splits.append(ClientSplit(train=mine[~held_out], test=mine[held_out]))
        return finished(dataset, splits)

    def _draw(
        self, count: int, group: IntArray, left: IntArray, taken: IntArray, rng: np.random.Generator
    ) -> None:
        """Draw one client's classes; ``left`` falls and ``taken`` grows, both (C,)."""
        outer = rng.dirichlet(np.full(group.max() + 1, self.alpha))
        inner = np.zeros(len(group))
        for number in range(len(outer)):
            members = np.flatnonzero(group == number)
            inner[members] = rng.dirichlet(np.full(len(members), self.inner_alpha))
        for _ in range(count):
            open_groups = np.bincount(group, weights=left, minlength=len(outer)) > 0
            superclass = _pick(outer, open_groups, rng)
            chosen = _pick(inner, (group == superclass) & (left > 0), rng)
            left[chosen] -= 1
            taken[chosen] += 1


def _pick(
    weights: NDArray[np.float64], allowed: NDArray[np.bool_], rng: np.random.Generator
) -> int:
    """Draw one of those that are allowed; evenly if their weights are too small to add up."""
    kept = np.where(allowed, weights, 0.0)
    if kept.sum() <= 0:
        kept = allowed.astype(np.float64)
    total = kept.cumsum()
    return int(np.searchsorted(total, rng.random() * total[-1], side="right"))
