"""All partitions: every image at most once, seeds that count; then each one's own promise."""

from random import Random

import numpy as np
import pytest

from pfedmoap.data.clusters import Clusters
from pfedmoap.data.dirichlet import Dirichlet, DomainDirichlet
from pfedmoap.data.few_shot import few_shot
from pfedmoap.data.partition import IID, Pathological, chunk_sizes
from pfedmoap.data.splits import Partition, refuse_idle
from pfedmoap.errors import DataError, PartitionError

ALL: list[Partition] = [
    Pathological(clients=5),
    IID(clients=7),
    Dirichlet(clients=6, alpha=0.3),
    DomainDirichlet(clients_per_domain=3, alpha=0.5),
    Clusters(clients=12, groups=4),
    Clusters(clients=12, groups=4, classes_per_group=5),
    Clusters(clients=9, groups=3, by="domains"),
    Clusters(clients=12, groups=6, by="both", classes_per_group=4, shots_per_client=2),
]


@pytest.fixture
def dataset(make_dataset):
    return make_dataset(classes=10, train=12, test=8, domains=3)


@pytest.mark.parametrize("partition", ALL, ids=repr)
def test_every_sample_used_once(partition, dataset) -> None:
    for seed in range(25):
        train = few_shot(dataset, 8, seed)
        splits = partition.split(dataset, train, seed)
        used_train = np.concatenate([one.train for one in splits])
        used_test = np.concatenate([one.test for one in splits])
        assert len(set(used_train)) == len(used_train)
        assert len(set(used_test)) == len(used_test)
        assert set(used_train) <= set(train)
        assert dataset.is_test[used_test].all()
        assert all(len(one.train) and len(one.test) for one in splits)
        for one in splits:
            assert (np.diff(one.train) > 0).all()
            assert (np.diff(one.test) > 0).all()


@pytest.mark.parametrize("partition", ALL, ids=repr)
def test_seed_zero_is_a_seed(partition, dataset) -> None:
    train = few_shot(dataset, None, 0)

    def clients(seed):
        return [one.train.tolist() for one in partition.split(dataset, train, seed)]

    assert clients(0) == clients(0)
    assert clients(0) != clients(1)


@pytest.mark.parametrize("partition", ALL, ids=repr)
def test_order_of_training_indices_does_not_matter(partition, dataset) -> None:
    train = few_shot(dataset, 8, 0)
    one = partition.split(dataset, train, 3)
    other = partition.split(dataset, train[::-1].copy(), 3)
    assert all((a.train == b.train).all() for a, b in zip(one, other, strict=True))


def test_nothing_is_left_over_where_nothing_must_be(dataset) -> None:
    train = few_shot(dataset, None, 0)
    for partition in ALL[:6]:
        splits = partition.split(dataset, train, 0)
        assert sum(len(one.train) for one in splits) == len(train)
        assert sum(len(one.test) for one in splits) == dataset.is_test.sum()


@pytest.mark.parametrize(
    ("indices", "message"),
    [([0, 0, 1], "occur twice"), ([-1, 3], "span"), ([0, 11], "are test images")],
)
def test_wrong_training_indices_are_refused(make_dataset, indices, message) -> None:
    dataset = make_dataset(train=6, test=6)
    with pytest.raises(DataError, match=message):
        IID(2).split(dataset, np.array(indices), 0)


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (37, [4] * 9 + [1]),
        (47, [5] * 9 + [2]),
        (100, [10] * 10),
        (101, [10] * 9 + [11]),
        (102, [10] * 9 + [12]),
    ],
    ids=["Pets", "DTD", "Caltech", "Food", "Flowers"],
)
def test_unequal_split_of_few_classes_as_published(make_dataset, classes, expected) -> None:
    dataset = make_dataset(classes=classes, train=2, test=1)
    splits = Pathological(10).split(dataset, few_shot(dataset, None, 0), 0)
    held = [set(dataset.labels[one.train]) for one in splits]
    assert [len(classes) for classes in held] == expected
    assert set.union(*held) == set(range(classes))


def test_pathological_tests_on_all_images_of_its_classes(dataset) -> None:
    splits = Pathological(5).split(dataset, few_shot(dataset, 1, 0), 0)
    for one in splits:
        mine = np.isin(dataset.labels, dataset.labels[one.train])
        np.testing.assert_array_equal(one.test, np.flatnonzero(mine & dataset.is_test))


def test_class_seed_fixes_the_classes_whatever_the_seed(dataset) -> None:
    train = few_shot(dataset, None, 0)
    fixed = [Pathological(5, class_seed=2023).split(dataset, train, s)[0].train for s in (0, 1)]
    np.testing.assert_array_equal(*fixed)
    zero = Pathological(5, class_seed=0).split(dataset, train, 7)[0].train
    np.testing.assert_array_equal(zero, Pathological(5).split(dataset, train, 0)[0].train)


@pytest.mark.parametrize(("classes", "clients"), [(10, 6), (15, 10), (4, 9)])
def test_impossible_chunking_advises_numbers_that_work(classes, clients) -> None:
    with pytest.raises(PartitionError, match="Numbers of clients that work") as caught:
        chunk_sizes(classes, clients)
    advised = str(caught.value).split(": ")[2].split(";")[0].split(", ")
    assert all(min(chunk_sizes(classes, int(number))) >= 1 for number in advised)


def test_iid_shares_every_class_and_domain_evenly(dataset) -> None:
    strata = dataset.domains * 10 + dataset.labels
    splits = IID(7).split(dataset, few_shot(dataset, None, 0), 0)
    counts = np.array([np.bincount(strata[one.train], minlength=30) for one in splits])
    assert (np.ptp(counts, axis=0) <= 1).all()
    assert np.ptp(counts.sum(axis=1)) <= 1


def test_more_clients_than_images_is_refused(make_dataset) -> None:
    dataset = make_dataset(classes=2, train=2, test=1)
    with pytest.raises(PartitionError, match=r"2 of 4 clients get no test image \(clients 2, 3\)"):
        IID(4).split(dataset, few_shot(dataset, None, 0), 0)
    with pytest.raises(PartitionError, match="number of clients is 0"):
        IID(0).split(dataset, few_shot(dataset, None, 0), 0)


def test_a_class_without_shots_leaves_no_empty_client(dataset) -> None:
    train = few_shot(dataset, None, 0)
    without = train[dataset.labels[train] != 4]
    with pytest.raises(PartitionError, match="1 of 10 clients get no train image"):
        refuse_idle(dataset, Pathological(10).split(dataset, without, 0))


@pytest.mark.parametrize(
    ("classes", "published"),
    [
        (37, [4] * 9 + [1]),
        (47, [5] * 9 + [2]),
        (102, [10] * 9 + [12]),
        (100, [10] * 10),
        (101, [10] * 9 + [11]),
    ],
)
def test_released_shuffle_gives_the_published_clients(classes, published, make_dataset) -> None:
    many = make_dataset(classes=classes, train=2, test=1)
    partition = Pathological(10, class_seed=2023, shuffle="released")
    splits = partition.split(many, few_shot(many, None, 0), 5)
    held = [many.labels[split.test].tolist() for split in splits]
    assert [len(labels) for labels in held] == published
    order = list(range(classes))
    Random(2023).shuffle(order)
    assert held[0] == sorted(order[: published[0]])
    assert held[-1] == sorted(order[-published[-1] :])
