"""Two levels of skew: sizes, what is shared out, and how uneven it is at each level."""

from dataclasses import replace

import numpy as np
import pytest

from pfedmoap.data.few_shot import few_shot
from pfedmoap.data.superclasses import Superclasses
from pfedmoap.errors import DataError, PartitionError


@pytest.fixture
def grouped(make_dataset):
    """20 classes in 4 superclasses, 30 training and 6 test images each."""
    dataset = make_dataset(classes=20, train=30, test=6)
    return replace(dataset, superclasses=tuple(c % 4 for c in range(20)))


def test_clients_have_the_same_number_and_share_no_image(grouped) -> None:
    splits = Superclasses(8, 1.0).split(grouped, few_shot(grouped, None, 0), 0)
    assert {len(one.train) + len(one.test) for one in splits} == {20 * 36 // 8}
    every = np.concatenate([np.concatenate([one.train, one.test]) for one in splits])
    assert len(every) == len(set(every.tolist())) == 720
    assert not grouped.is_test[np.concatenate([one.train for one in splits])].any()
    assert grouped.is_test[np.concatenate([one.test for one in splits])].all()


def test_superclasses_are_skewed_and_classes_inside_them_are_not(grouped) -> None:
    """Measured at the first client, who draws from full classes."""
    tops, inside = [], []
    for seed in range(20):
        first = Superclasses(20, 0.1, 1e5).split(grouped, few_shot(grouped, None, 0), seed)[0]
        counts = np.bincount(
            grouped.labels[np.concatenate([first.train, first.test])], minlength=20
        )
        groups = np.array([counts[g::4].sum() for g in range(4)])
        tops.append(groups.max() / groups.sum())
        inside.append(counts[groups.argmax() :: 4].max() / groups.max())
    assert np.mean(tops) > 0.7
    assert np.mean(inside) < 0.4


def test_the_seed_decides(grouped) -> None:
    train = few_shot(grouped, None, 0)
    one, same, other = (Superclasses(8).split(grouped, train, seed) for seed in (1, 1, 2))
    assert all(np.array_equal(a.train, b.train) for a, b in zip(one, same, strict=True))
    assert not all(np.array_equal(a.train, b.train) for a, b in zip(one, other, strict=True))


def test_data_without_superclasses_or_too_few_images_are_refused(make_dataset, grouped) -> None:
    plain = make_dataset(classes=4, train=10, test=4)
    with pytest.raises(PartitionError, match="no superclasses"):
        Superclasses(2).split(plain, few_shot(plain, None, 0), 0)
    with pytest.raises(PartitionError, match="one each"):
        Superclasses(10_000).split(grouped, few_shot(grouped, None, 0), 0)
    with pytest.raises(DataError, match="have a superclass, expected 4"):
        replace(plain, superclasses=(0, 1))
