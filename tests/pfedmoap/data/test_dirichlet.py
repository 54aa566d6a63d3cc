"""Dirichlet partitions: proportions, minimum sizes, and an end to every search."""

import time

import numpy as np
import pytest

from pfedmoap.data import dirichlet
from pfedmoap.data.dirichlet import Dirichlet, DomainDirichlet
from pfedmoap.data.few_shot import few_shot
from pfedmoap.data.splits import largest_remainder
from pfedmoap.errors import PartitionError


def counts_of(dataset, indices):
    return np.bincount(dataset.labels[indices], minlength=len(dataset.class_names))


def test_test_images_follow_the_training_proportions(make_dataset) -> None:
    dataset = make_dataset(classes=5, train=40, test=20)
    for one in Dirichlet(8, alpha=0.3).split(dataset, few_shot(dataset, None, 0), 0):
        train, test = counts_of(dataset, one.train), counts_of(dataset, one.test)
        assert (np.abs(test - train / 2) < 1).all()
        assert not test[train == 0].any()


def test_small_alpha_skews_and_large_alpha_does_not(make_dataset) -> None:
    dataset = make_dataset(classes=5, train=60, test=60)
    train = few_shot(dataset, None, 0)

    def largest_share(alpha):
        splits = Dirichlet(5, alpha=alpha).split(dataset, train, 0)
        counts = np.array([counts_of(dataset, one.train) for one in splits])
        return (counts.max(axis=1) / counts.sum(axis=1)).mean()

    assert largest_share(0.1) > 0.5
    assert largest_share(1000.0) < 0.25


def test_every_client_has_the_minimum(make_dataset) -> None:
    dataset = make_dataset(classes=5, train=20, test=10)
    for seed in range(10):
        splits = Dirichlet(8, alpha=0.2, min_train=5).split(
            dataset, few_shot(dataset, None, 0), seed
        )
        assert min(len(one.train) for one in splits) >= 5
        assert min(len(one.test) for one in splits) >= 1


def test_search_that_cannot_succeed_ends_with_advice(make_dataset) -> None:
    dataset = make_dataset(classes=2, train=30, test=30)
    start = time.perf_counter()
    with pytest.raises(PartitionError, match=r"in 50 draws; at best .* Raise alpha"):
        Dirichlet(30, alpha=0.01, max_draws=50).split(dataset, few_shot(dataset, None, 0), 0)
    assert time.perf_counter() - start < 5


def test_retry_is_a_new_draw_also_inside_a_domain(make_dataset, monkeypatch) -> None:
    """The released code seeds numpy anew in each retry, which then can never succeed."""
    dataset = make_dataset(classes=4, train=10, test=6, domains=2)
    drawn = []
    original = dirichlet.numpy_generator

    def recording(*names):
        rng = original(*names)
        drawn.append((names, original(*names).random()))
        return rng

    monkeypatch.setattr(dirichlet, "numpy_generator", recording)
    partition = DomainDirichlet(3, alpha=0.05, min_train=12, max_draws=40)
    with pytest.raises(PartitionError, match="domain 'domain 0'"):
        partition.split(dataset, few_shot(dataset, None, 0), 0)
    assert len({number for _, number in drawn}) == 40
    assert all(
        len(DomainDirichlet(3, alpha=0.1).split(dataset, few_shot(dataset, None, 0), s)) == 6
        for s in range(10)
    )


def test_too_few_images_is_refused_before_any_draw(make_dataset) -> None:
    dataset = make_dataset(classes=2, train=4, test=4)
    with pytest.raises(PartitionError, match="8 training and 8 test images cannot give each of 5"):
        Dirichlet(5).split(dataset, few_shot(dataset, None, 0), 0)
    with pytest.raises(PartitionError, match="alpha is 0"):
        Dirichlet(2, alpha=0).split(dataset, few_shot(dataset, None, 0), 0)


def test_clients_keep_to_their_domain(make_dataset) -> None:
    dataset = make_dataset(classes=4, train=10, test=6, domains=3)
    splits = DomainDirichlet(2, alpha=1.0).split(dataset, few_shot(dataset, None, 0), 0)
    for client, one in enumerate(splits):
        assert set(dataset.domains[one.train]) == set(dataset.domains[one.test]) == {client // 2}


def test_domain_partition_needs_domains(make_dataset) -> None:
    dataset = make_dataset()
    with pytest.raises(PartitionError, match="has no domains"):
        DomainDirichlet().split(dataset, few_shot(dataset, None, 0), 0)


def test_largest_remainder() -> None:
    rng = np.random.default_rng(0)
    assert largest_remainder(np.array([0.5, 0.3, 0.2]), 10, rng).tolist() == [5, 3, 2]
    assert largest_remainder(np.array([0.46, 0.34, 0.2]), 4, rng).tolist() == [2, 1, 1]
    for _ in range(200):
        weights, total = rng.dirichlet(np.full(7, 0.2)), int(rng.integers(0, 50))
        counts = largest_remainder(weights, total, rng)
        assert counts.sum() == total
        assert (np.abs(counts - weights * total) < 1).all()
    ties = [largest_remainder(np.ones(4), 1, rng).argmax() for _ in range(100)]
    assert set(ties) == {0, 1, 2, 3}


def test_a_cap_keeps_clients_near_their_even_share(make_dataset) -> None:
    """A client with its share gets nothing of the next class, so that none has two classes more."""
    dataset = make_dataset(classes=10, train=50, test=20)
    train = few_shot(dataset, None, 0)
    sizes = {
        capped: np.array(
            [len(s.train) for s in Dirichlet(5, 0.1, capped=capped).split(dataset, train, 3)]
        )
        for capped in (False, True)
    }
    assert sizes[True].sum() == sizes[False].sum() == 500
    assert sizes[True].max() < 100 + 50  # below the share before the class that took it over
    assert sizes[False].max() > sizes[True].max()


def test_every_client_has_the_minimum_of_test_images(make_dataset) -> None:
    dataset = make_dataset(classes=5, train=40, test=40)
    splits = Dirichlet(5, 0.3, min_test=20).split(dataset, few_shot(dataset, None, 0), 0)
    assert min(len(one.test) for one in splits) >= 20
    with pytest.raises(PartitionError, match="50 test images"):
        Dirichlet(5, 0.3, min_test=50).split(dataset, few_shot(dataset, None, 0), 0)
