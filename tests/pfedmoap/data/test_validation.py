"""Held-out training images: the right share of each class, whole persons, and no test image."""

from dataclasses import replace

import numpy as np
import pytest

from pfedmoap.config.sampling import Sampling, Seeds
from pfedmoap.data.digits import Digits
from pfedmoap.data.dirichlet import Dirichlet
from pfedmoap.data.federation import Features, build_federation
from pfedmoap.data.few_shot import few_shot
from pfedmoap.data.partition import IID
from pfedmoap.data.splits import ClientSplit
from pfedmoap.data.validation import hold_out
from pfedmoap.errors import PartitionError


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_each_client_holds_out_the_share_of_each_class(make_dataset, share):
    dataset = make_dataset(classes=4, train=40, test=8)
    splits = IID(2).split(dataset, np.flatnonzero(~dataset.is_test), 0)
    for before, after in zip(splits, hold_out(dataset, splits, share, 3), strict=True):
        assert not set(after.train) & set(after.test)
        np.testing.assert_array_equal(np.sort(np.r_[after.train, after.test]), before.train)
        assert len(after.test) == round(share * len(before.train))
        for label in range(4):
            own = int((dataset.labels[before.train] == label).sum())
            held = int((dataset.labels[after.test] == label).sum())
            assert abs(held - share * own) <= 1.5


def test_the_draw_depends_on_seed_and_client_and_on_no_test_image(make_dataset):
    dataset = make_dataset(classes=4, train=10, test=3)
    train = np.flatnonzero(~dataset.is_test)
    splits = IID(2).split(dataset, train, 0)
    first = [one.test for one in hold_out(dataset, splits, 0.3, 0)]
    for a, b in zip(first, hold_out(dataset, splits, 0.3, 0), strict=True):
        np.testing.assert_array_equal(a, b.test)
    assert any(
        not np.array_equal(a, b.test)
        for a, b in zip(first, hold_out(dataset, splits, 0.3, 1), strict=True)
    )
    without = [ClientSplit(one.train, one.test[:0]) for one in splits]
    for a, b in zip(first, hold_out(dataset, without, 0.3, 0), strict=True):
        np.testing.assert_array_equal(a, b.test)


@pytest.mark.parametrize("seed", range(4))
def test_the_only_image_of_a_class_stays_in_training_where_others_are_left(make_dataset, seed):
    dataset = make_dataset(classes=4, train=4, test=1)
    train = np.flatnonzero(~dataset.is_test)
    labels = dataset.labels[train]
    few = np.concatenate([train[labels == 0][:4], train[labels == 1][:1], train[labels == 2][:1]])
    (split,) = hold_out(dataset, [ClientSplit(np.sort(few), few[:0])], 0.4, seed)
    assert set(dataset.labels[split.test]) == {0}
    assert set(dataset.labels[split.train]) == {0, 1, 2}
    single = np.array([train[labels == label][0] for label in range(4)])
    (split,) = hold_out(dataset, [ClientSplit(np.sort(single), few[:0])], 0.4, seed)
    assert (len(split.train), len(split.test)) == (2, 2)


@pytest.mark.parametrize("seed", range(4))
def test_a_persons_images_are_on_one_side(make_dataset, seed):
    plain = make_dataset(classes=2, train=30, test=4)
    dataset = replace(plain, groups=np.arange(len(plain)) // 3)
    train = np.flatnonzero(~dataset.is_test)
    (split,) = hold_out(dataset, [ClientSplit(train, train[:0])], 0.25, seed)
    assert not set(dataset.groups[split.train]) & set(dataset.groups[split.test])
    assert 15 <= len(split.test) <= 17
    one_person = replace(plain, groups=np.zeros(len(plain), dtype=np.int64))
    with pytest.raises(PartitionError, match="fewer than two training persons"):
        hold_out(one_person, [ClientSplit(train, train[:0])], 0.25, seed)


def test_a_client_with_one_image_is_named_unless_that_is_secret(make_dataset):
    dataset = make_dataset()
    train = np.flatnonzero(~dataset.is_test)
    splits = [ClientSplit(train[:9], train[:0]), ClientSplit(train[9:10], train[:0])]
    with pytest.raises(PartitionError, match=r"1 of 2 clients \(clients 1\) have fewer than two"):
        hold_out(dataset, splits, 0.2, 0)
    with pytest.raises(PartitionError, match=r"^some clients have fewer than two"):
        hold_out(dataset, splits, 0.2, 0, named=False)


def test_a_federation_with_it_encodes_no_test_image(clip, tmp_path, monkeypatch):
    """Neither trains with what it holds out: together both are what the run without it trains."""
    dataset, loaded = Digits().read(), []

    def load(index):
        loaded.append(index)
        return dataset.load(index)

    held = build_federation(
        replace(dataset, load=load),
        Dirichlet(clients=4, alpha=1.0),
        clip,
        ("image",),
        sampling=Sampling(shots=6, validation=0.25),
        seeds=Seeds(),
        features=Features(cache=str(tmp_path)),
        progress=False,
    )
    assert loaded.pop(0) == 0  # a look at what kind of data they are
    assert loaded
    assert not dataset.is_test[loaded].any()
    whole = Dirichlet(clients=4, alpha=1.0).split(dataset, few_shot(dataset, 6, 0), 0)
    for own, before in zip(held.clients.values(), whole, strict=True):
        both = np.sort(np.r_[own.split.train, own.split.test])
        np.testing.assert_array_equal(both, before.train)
        np.testing.assert_array_equal(own.test.labels, dataset.labels[own.split.test])
        assert len(own.train) == len(own.split.train)
