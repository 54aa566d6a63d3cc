"""Images of one person stay in one division and, unless asked otherwise, with one client."""

from dataclasses import replace

import numpy as np
import pytest

from pfedmoap.data.partition import IID
from pfedmoap.data.persons import grouped_test_mask, report_divided, report_shared, together
from pfedmoap.errors import ConfigError


@pytest.mark.parametrize("seed", range(5))
def test_whole_groups_are_held_out_about_the_right_part_of_each_stratum(seed):
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, 60, 600)
    strata = groups % 3  # 20 groups of about 10 images each
    is_test = grouped_test_mask(strata, groups, 0.3, seed)
    assert not set(groups[is_test]) & set(groups[~is_test])
    for stratum in range(3):
        assert is_test[strata == stratum].mean() == pytest.approx(0.3, abs=0.06)


def test_every_stratum_of_two_groups_has_both_sides_and_a_single_group_trains():
    strata, groups = np.array([0, 0, 0, 0, 1, 1]), np.array([5, 5, 5, 6, 7, 7])
    for fraction in (0.01, 0.99):
        is_test = grouped_test_mask(strata, groups, fraction, 0)
        assert 0 < is_test[:4].sum() < 4
        assert not is_test[4:].any()
    with pytest.raises(ConfigError, match="test_fraction is 1"):
        grouped_test_mask(strata, groups, 1.0, 0)


def test_a_persons_images_go_to_the_client_that_has_most_of_them(make_dataset, caplog):
    plain = make_dataset(classes=2, train=6, test=4)
    dataset = replace(plain, groups=np.arange(len(plain)) % 3)
    train = np.flatnonzero(~dataset.is_test)
    splits = IID(2).split(dataset, train, 0)
    report_shared(dataset, splits)
    assert "3 of 3 groups have training images with several clients" in caplog.text
    assert "budgets of these clients add up" in caplog.text
    caplog.clear()
    kept = together(dataset, splits)
    assert "training images were moved" in caplog.text
    np.testing.assert_array_equal(np.sort(np.concatenate([one.train for one in kept])), train)
    homes = [set(dataset.groups[one.train]) for one in kept]
    assert not homes[0] & homes[1]
    for before, after in zip(splits, kept, strict=True):
        np.testing.assert_array_equal(before.test, after.test)
    for group in range(3):
        counts = [int((dataset.groups[one.train] == group).sum()) for one in splits]
        assert group in homes[int(np.argmax(counts))]
    caplog.clear()
    report_shared(dataset, kept)
    assert not caplog.records


def test_people_on_both_sides_of_the_division_are_counted(caplog):
    report_divided("x", np.array([1, 1, 2]), np.array([True, False, False]))
    assert "x: 1 of 2 groups have images for training and for testing" in caplog.text
