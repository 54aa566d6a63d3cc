"""Label skew by Dirichlet proportions, over all images or inside every domain."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from pfedmoap.config.bounds import Bounds, Count, Whole
from pfedmoap.data.dataset import ImageDataset, IntArray
from pfedmoap.data.splits import ClientSplit, check_clients, divisions, finished, largest_remainder
from pfedmoap.errors import PartitionError
from pfedmoap.seeding import numpy_generator


@dataclass(frozen=True)
class Dirichlet:
    """Each class is shared out in proportions drawn from a Dirichlet distribution.

    A client's test images follow the counts of its training images class by class, so that it is
    never tested on a class it did not train on.

    Attributes:
        clients: Number of clients.
        alpha: Concentration; 0.1 leaves most clients with few classes, 100 is nearly IID.
        min_train: Fewest training images that a client may have; 0 only in a private run.
        max_draws: Redraws of the proportions until every client has enough, before giving up.
        min_test: Fewest test images that a client may have, at least 1.
        capped: Go through the classes in order, and give nothing of a class to clients that have
            their even share of all images already, as the released code does for CIFAR-10.
    """

    clients: Annotated[int, Bounds(ge=1, le=100_000)] = 10
    alpha: Annotated[float, Bounds(ge=1e-4, le=1e6)] = 0.3
    min_train: Whole = 2
    max_draws: Annotated[int, Bounds(ge=1, le=10_000)] = 500
    min_test: Count = 1
    capped: bool = False

    def split(
        self, dataset: ImageDataset, train_indices: IntArray, seed: int
    ) -> tuple[ClientSplit, ...]:
        """Share the images out; see `Partition.split`."""
        train, test = divisions(dataset, train_indices)
        return finished(dataset, self.share(dataset.labels, train, test, seed, "all images"))

    def share(
        self, labels: IntArray, train: IntArray, test: IntArray, seed: int, part: str
    ) -> list[ClientSplit]:
        """Share out some of the images of a data set.

        Args:
            labels: Class of every image of the data set, (n,).
            train: The training images to share out.
            test: The test images to share out.
            seed: Seed of the partition.
            part: What is being shared out, for messages and to name the random stream.

        Returns:
            One split for each client, with at least ``min_train`` training and ``min_test`` test
            images.

        Raises:
            PartitionError: If there are too few images, or no draw gives every client enough.
        """
        self._check(train, test, part)
        best = 0
        for draw in range(self.max_draws):
            rng = numpy_generator(seed, "dirichlet", part, draw)
            train_counts = self._train_counts(labels[train], rng)
            test_counts = _following(train_counts, labels[test], rng)
            smallest = int(train_counts.sum(axis=0).min())
            enough = test_counts.sum(axis=0).min() >= self.min_test
            if smallest >= self.min_train and enough:
                train_parts = _hand_out(train, labels, train_counts, rng)
                test_parts = _hand_out(test, labels, test_counts, rng)
                return [ClientSplit(*both) for both in zip(train_parts, test_parts, strict=True)]
            best = max(best, smallest)
        raise PartitionError(
            f"no Dirichlet({self.alpha}) split of {part} ({len(train)} training, {len(test)} test) "
            f"gave each of {self.clients} clients {self.min_train} training images and "
            f"{_of_test(self.min_test)} in {self.max_draws} draws; at best the smallest client had "
            f"{best} training images. Raise alpha, use fewer clients or more shots, or lower "
            f"min_train"
        )

    def _check(self, train: IntArray, test: IntArray, part: str) -> None:
        check_clients(self.clients)
        if self.alpha <= 0 or self.min_train < 0 or self.max_draws < 1:
            raise PartitionError(
                f"alpha is {self.alpha}, min_train {self.min_train} and max_draws "
                f"{self.max_draws}; expected alpha above 0, min_train at least 0 and max_draws 1"
            )
        few_test = len(test) < self.clients * self.min_test
        if len(train) < self.clients * self.min_train or few_test:
            raise PartitionError(
                f"{part}: {len(train)} training and {len(test)} test images cannot give each of "
                f"{self.clients} clients {self.min_train} training images and "
                f"{_of_test(self.min_test)}. Use "
                f"fewer clients, more shots or another test fraction, or lower min_train"
            )

    def _train_counts(self, labels: IntArray, rng: np.random.Generator) -> IntArray:
        """Draw how many images of each class each client gets, (classes, clients)."""
        totals = np.bincount(labels)
        proportions = rng.dirichlet(np.full(self.clients, self.alpha), size=len(totals))
        if not self.capped:
            rows = [largest_remainder(*row, rng) for row in zip(proportions, totals, strict=True)]
            return np.stack(rows)
        share, held, counts = len(labels) / self.clients, np.zeros(self.clients), []
        for row, total in zip(proportions, totals, strict=True):
            left = np.where(held < share, row, 0.0)
            # Of tiny proportions none may be left; those with room then share evenly.
            weights = left if left.sum() > 0 else (held <= held.min()).astype(np.float64)
            counts.append(largest_remainder(weights, int(total), rng))
            held += counts[-1]
        return np.stack(counts)


@dataclass(frozen=True)
class DomainDirichlet:
    """Each client has one domain; the clients of a domain share its classes by Dirichlet.

    The clients of the first domain come first. pFedMoAP uses 5 clients per domain and alpha 0.3 on
    DomainNet and Office-Caltech10. The released code resets its random state at each retry, so
    that a retry can never succeed; here each draw is new and their number is bounded.

    Attributes:
        clients_per_domain: Number of clients in each domain.
        alpha: Concentration of the Dirichlet distribution inside a domain.
        min_train: Fewest training images that a client may have; 0 only in a private run.
        max_draws: Redraws of one domain until every client has enough, before giving up.
    """

    clients_per_domain: Annotated[int, Bounds(ge=1, le=100_000)] = 5
    alpha: Annotated[float, Bounds(ge=1e-4, le=1e6)] = 0.3
    min_train: Whole = 2
    max_draws: Annotated[int, Bounds(ge=1, le=10_000)] = 500

    def split(
        self, dataset: ImageDataset, train_indices: IntArray, seed: int
    ) -> tuple[ClientSplit, ...]:
        """Share each domain's images out over its clients; see `Partition.split`."""
        if dataset.domains is None:
            raise PartitionError(
                f"data set {dataset.name!r} has no domains: use --partition dirichlet, data in a "
                "tree root/domain/class, or a table (--data csv) with a column site"
            )
        train, test = divisions(dataset, train_indices)
        inside = Dirichlet(self.clients_per_domain, self.alpha, self.min_train, self.max_draws)
        splits: list[ClientSplit] = []
        for domain, name in enumerate(dataset.domain_names):
            train_here = train[dataset.domains[train] == domain]
            test_here = test[dataset.domains[test] == domain]
            part = f"domain {name!r}"
            splits += inside.share(dataset.labels, train_here, test_here, seed, part)
        return finished(dataset, splits)


def _of_test(images: int) -> str:
    return "a test image" if images == 1 else f"{images} test images"


def _following(train_counts: IntArray, test_labels: IntArray, rng: np.random.Generator) -> IntArray:
    """Share out the test images of each class in proportion to the training counts.

    A class without training images has no client, so its test images stay unused.
    """
    totals = np.bincount(test_labels, minlength=len(train_counts))
    counts = np.zeros_like(train_counts)
    for label, row in enumerate(train_counts):
        if row.sum():
            counts[label] = largest_remainder(row.astype(np.float64), int(totals[label]), rng)
    return counts


def _hand_out(
    indices: IntArray, labels: IntArray, counts: IntArray, rng: np.random.Generator
) -> list[IntArray]:
    """Draw each client's images, given counts (classes, clients)."""
    hands: list[list[IntArray]] = [[] for _ in range(counts.shape[1])]
    for label, row in enumerate(counts):
        members = rng.permutation(indices[labels[indices] == label])
        parts = np.split(members, np.cumsum(row))[:-1]
        for hand, part in zip(hands, parts, strict=True):
            hand.append(part)
    return [np.concatenate(hand) for hand in hands]
