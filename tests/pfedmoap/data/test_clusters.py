"""Hidden groups: related clients are alike, groups differ, and shortages are said."""

import logging

import numpy as np
import pytest

from pfedmoap.data.clusters import Clusters
from pfedmoap.data.few_shot import few_shot
from pfedmoap.errors import PartitionError


def held_classes(dataset, partition, seed=0):
    """Classes of each client, and the hidden group of each."""
    splits = partition.split(dataset, few_shot(dataset, None, 0), seed)
    for one in splits:
        assert set(dataset.labels[one.test]) <= set(dataset.labels[one.train])
    return [frozenset(dataset.labels[one.train]) for one in splits]


def test_groups_divide_the_classes_and_share_them_inside(make_dataset) -> None:
    dataset = make_dataset(classes=10, train=40, test=20)
    partition = Clusters(clients=20, groups=4)
    held = held_classes(dataset, partition)
    groups = [{held[c] for c in range(20) if partition.group_of(c) == g} for g in range(4)]
    assert [len(group) for group in groups] == [1] * 4
    sets = [next(iter(group)) for group in groups]
    assert sum(len(classes) for classes in sets) == 10
    assert len(frozenset.union(*sets)) == 10


def test_more_classes_per_group_overlap(make_dataset) -> None:
    dataset = make_dataset(classes=10, train=40, test=20)
    held = held_classes(dataset, Clusters(clients=5, groups=5, classes_per_group=4))
    assert [len(classes) for classes in held] == [4] * 5
    assert len(set(held)) == 5
    assert len(held[0] & held[1]) == 2
    assert not held[0] & held[2]


def test_groups_by_domain(make_dataset) -> None:
    dataset = make_dataset(classes=4, train=12, test=9, domains=3)
    splits = Clusters(9, 3, by="domains").split(dataset, few_shot(dataset, None, 0), 0)
    for client, one in enumerate(splits):
        assert set(dataset.domains[one.train]) == set(dataset.domains[one.test]) == {client % 3}
        assert set(dataset.labels[one.train]) == {0, 1, 2, 3}


def test_groups_by_both(make_dataset) -> None:
    dataset = make_dataset(classes=8, train=12, test=9, domains=2)
    partition = Clusters(12, 4, by="both")
    splits = partition.split(dataset, few_shot(dataset, None, 0), 0)
    kinds = {
        (frozenset(dataset.labels[one.train]), *set(dataset.domains[one.train])) for one in splits
    }
    assert len(kinds) == 4
    assert [len(kind) for kind in kinds] == [2] * 4


def test_shots_per_client(make_dataset) -> None:
    dataset = make_dataset(classes=8, train=50, test=20)
    splits = Clusters(20, 4, shots_per_client=2).split(dataset, few_shot(dataset, None, 0), 0)
    for one in splits:
        assert np.bincount(dataset.labels[one.train]).max() == 2
        assert len(one.train) == 4


def test_clients_that_miss_a_class_are_told(make_dataset, caplog) -> None:
    dataset = make_dataset(classes=8, train=4, test=6)
    with caplog.at_level(logging.WARNING):
        Clusters(24, 4).split(dataset, few_shot(dataset, None, 0), 0)
    assert "2 classes have fewer training images than the group has clients (6)" in caplog.text


@pytest.mark.parametrize(
    ("partition", "message"),
    [
        (Clusters(60, 4), "16 training and 12 test images for 15 clients"),
        (Clusters(3, 4), "3 clients cannot form 4 groups"),
        (Clusters(12, 9), "9 groups of equally many classes"),
        (Clusters(12, 4, classes_per_group=9), "4 groups of 9 classes"),
        (Clusters(12, 4, classes_per_group=8), "are no groups"),
        (Clusters(12, 4, by="domains"), "has 2 domains"),
        (Clusters(12, 2, by="domains", classes_per_group=2), "choose by=both"),
        (Clusters(12, 4, shots_per_client=0), "shots_per_client is 0"),
    ],
)
def test_impossible_groups_are_refused(make_dataset, partition, message) -> None:
    dataset = make_dataset(classes=8, train=4, test=3, domains=2)
    with pytest.raises(PartitionError, match=message):
        partition.split(dataset, few_shot(dataset, None, 0), 0)


def test_domains_are_needed(make_dataset) -> None:
    dataset = make_dataset(classes=8)
    with pytest.raises(PartitionError, match="has no domains"):
        Clusters(12, 2, by="domains").split(dataset, few_shot(dataset, None, 0), 0)
