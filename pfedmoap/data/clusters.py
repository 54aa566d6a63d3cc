"""A partition with hidden groups of related clients, each with few images."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np

from pfedmoap.config.bounds import Bounds, Count
from pfedmoap.data.dataset import ImageDataset, IntArray
from pfedmoap.data.division import strata_of
from pfedmoap.data.splits import ClientSplit, check_clients, deal, divisions, finished
from pfedmoap.errors import PartitionError
from pfedmoap.seeding import numpy_generator

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Clusters:
    """Clients belong to hidden groups; the clients of one group have the same classes or domain.

    The setting in which a mixture of nearest experts should help: a client has few images, but
    others hold images of the same kind, and the server does not know which. Client ``i`` is in
    group ``i % groups``. The shuffled classes form a ring, on which the groups start evenly spaced
    and take ``classes_per_group`` classes each; more than ``classes / groups`` makes neighbouring
    groups overlap. The images of a class (and domain) are shared out over the groups that hold it,
    and those of a group over its clients, stratified and without repetition.

    Attributes:
        clients: Number of clients.
        groups: Number of hidden groups.
        by: How groups differ: by classes, by domain (group ``g`` has domain
            ``g % domains`` and all classes), or both.
        classes_per_group: Classes of each group; none divides all classes without overlap. Must
            be none where groups differ by domain only.
        shots_per_client: Most training images of a class (and domain) that a client may have; none
            shares out everything. Comes after few-shot sampling, which is over all clients.
    """

    clients: Annotated[int, Bounds(ge=1, le=100_000)] = 40
    groups: Annotated[int, Bounds(ge=1, le=100_000)] = 4
    by: Literal["classes", "domains", "both"] = "classes"
    classes_per_group: Count | None = None
    shots_per_client: Count | None = None

    def group_of(self, client: int) -> int:
        """Return the hidden group of a client, to check whether its experts come from it."""
        return client % self.groups

    def split(
        self, dataset: ImageDataset, train_indices: IntArray, seed: int
    ) -> tuple[ClientSplit, ...]:
        """Share the images out over groups, and each group's over its clients.

        See `Partition.split`.
        """
        self._check(dataset)
        train, test = divisions(dataset, train_indices)
        strata = strata_of(dataset.labels, dataset.domains)
        owners = self._owners(dataset, strata, seed)
        train_of = _over_groups(train, strata, owners, self.groups, seed, "train")
        test_of = _over_groups(test, strata, owners, self.groups, seed, "test")
        splits: dict[int, ClientSplit] = {}
        for group in range(self.groups):
            members = range(group, self.clients, self.groups)
            rng = numpy_generator(seed, "clusters", "group", group)
            held = self._few(train_of[group], strata, len(members), rng)
            _check_group(dataset, group, held, test_of[group], len(members))
            train_hands = deal(held, strata, len(members), rng)
            test_hands = deal(test_of[group], strata, len(members), rng)
            for client, *hands in zip(members, train_hands, test_hands, strict=True):
                splits[client] = ClientSplit(*hands)
        return finished(dataset, [splits[client] for client in range(self.clients)])

    def _check(self, dataset: ImageDataset) -> None:
        check_clients(self.clients)
        if not 1 <= self.groups <= self.clients:
            raise PartitionError(
                f"{self.clients} clients cannot form {self.groups} groups: every group needs one"
            )
        if self.shots_per_client is not None and self.shots_per_client < 1:
            raise PartitionError(f"shots_per_client is {self.shots_per_client}, expected >= 1")
        if self.by != "classes":
            self._check_domains(dataset)
        if self.by != "domains":
            self._check_classes(len(dataset.class_names))

    def _check_domains(self, dataset: ImageDataset) -> None:
        if dataset.domains is None:
            raise PartitionError(
                f"data set {dataset.name!r} has no domains: let groups differ by classes"
            )
        if self.by == "domains" and self.classes_per_group is not None:
            raise PartitionError("groups that differ by domain have all classes: choose by=both")
        if self.by == "domains" and self.groups > len(dataset.domain_names):
            raise PartitionError(
                f"{self.groups} groups cannot differ by domain alone: {dataset.name!r} has "
                f"{len(dataset.domain_names)} domains. Use fewer groups, or choose by=both"
            )

    def _check_classes(self, classes: int) -> None:
        each = self.classes_per_group
        if self.groups > classes or (each is not None and not 1 <= each <= classes):
            raise PartitionError(
                f"{self.groups} groups of {each or 'equally many'} classes cannot be taken from "
                f"{classes} classes: use at most {classes} of either"
            )
        if each == classes and self.by == "classes" and self.groups > 1:
            raise PartitionError(
                f"{self.groups} groups that all have the same {classes} classes are no groups: "
                f"lower classes_per_group, or use IID"
            )

    def _owners(self, dataset: ImageDataset, strata: IntArray, seed: int) -> dict[int, list[int]]:
        """The groups that hold each (domain, class) stratum."""
        classes = len(dataset.class_names)
        ring = numpy_generator(seed, "clusters", "class order").permutation(classes)
        starts = [group * classes // self.groups for group in range(self.groups + 1)]
        held: list[set[int]] = []
        for group in range(self.groups):
            length = self.classes_per_group or starts[group + 1] - starts[group]
            held.append({int(ring[(starts[group] + step) % classes]) for step in range(length)})
        owners: dict[int, list[int]] = {}
        for stratum, example in zip(*np.unique(strata, return_index=True), strict=True):
            label = int(dataset.labels[example])
            right = range(self.groups)
            if dataset.domains is not None and self.by != "classes":
                domains = len(dataset.domain_names)
                right = range(int(dataset.domains[example]), self.groups, domains)
            owners[int(stratum)] = [g for g in right if self.by == "domains" or label in held[g]]
        return owners

    def _few(
        self, indices: IntArray, strata: IntArray, members: int, rng: np.random.Generator
    ) -> IntArray:
        """Keep as many images of each stratum as ``members`` clients may have."""
        if self.shots_per_client is None:
            return indices
        shuffled = rng.permutation(indices)
        most = self.shots_per_client * members
        kept = [shuffled[strata[shuffled] == stratum][:most] for stratum in np.unique(strata)]
        return np.concatenate(kept)


def _over_groups(
    indices: IntArray,
    strata: IntArray,
    owners: Mapping[int, list[int]],
    groups: int,
    seed: int,
    division: str,
) -> list[IntArray]:
    """Share out the images of every stratum over the groups that hold it."""
    empty = np.empty(0, dtype=np.int64)
    parts: list[list[IntArray]] = [[empty] for _ in range(groups)]
    for stratum, holders in owners.items():
        rng = numpy_generator(seed, "clusters", division, stratum)
        members = rng.permutation(indices[strata[indices] == stratum])
        for position, group in enumerate(rng.permutation(holders)):
            parts[group].append(members[position :: len(holders)])
    return [np.concatenate(part) for part in parts]


def _check_group(
    dataset: ImageDataset, group: int, train: IntArray, test: IntArray, members: int
) -> None:
    """Refuse a group with fewer images than clients; warn if clients will miss a class."""
    if len(train) < members or len(test) < members:
        raise PartitionError(
            f"group {group} of {dataset.name!r} has {len(train)} training and {len(test)} test "
            f"images for {members} clients, and each needs one of both. Use fewer clients, more "
            f"groups or classes per group, more shots or a larger test fraction"
        )
    counts = np.bincount(dataset.labels[train])
    if scarce := int((counts[np.unique(dataset.labels[train])] < members).sum()):
        logger.warning(
            "group %d of %r: %d classes have fewer training images than the group has clients "
            "(%d), so some of its clients miss a class",
            group,
            dataset.name,
            scarce,
            members,
        )
