"""Few-shot sampling: counts, seeds, and only training images."""

import logging

import numpy as np
import pytest

from pfedmoap.data.few_shot import draw_images, few_shot
from pfedmoap.errors import ConfigError


@pytest.mark.parametrize("domains", [0, 3])
def test_counts_per_class_and_domain(make_dataset, domains) -> None:
    dataset = make_dataset(domains=domains)
    drawn = few_shot(dataset, 2, seed=0)
    assert drawn.dtype == np.int64
    assert (np.diff(drawn) > 0).all()
    assert not dataset.is_test[drawn].any()
    assert np.bincount(dataset.labels[drawn]).tolist() == [2 * max(domains, 1)] * 4
    if domains:
        assert np.bincount(dataset.domains[drawn]).tolist() == [8] * 3


def test_no_shots_takes_all_training_images(make_dataset) -> None:
    dataset = make_dataset()
    np.testing.assert_array_equal(few_shot(dataset, None, 0), np.flatnonzero(~dataset.is_test))


def test_too_few_images_takes_all_and_says_so(make_dataset, caplog) -> None:
    dataset = make_dataset(train=3)
    with caplog.at_level(logging.WARNING):
        drawn = few_shot(dataset, 16, 0)
    assert len(drawn) == 12
    assert "4 of 4 classes" in caplog.text
    assert "fewer than 16" in caplog.text


def test_fewer_shots_are_a_subset_of_more(make_dataset) -> None:
    dataset = make_dataset()
    assert set(few_shot(dataset, 2, 5)) < set(few_shot(dataset, 4, 5))


def test_seed_zero_is_a_seed(make_dataset) -> None:
    dataset = make_dataset(train=30)
    np.testing.assert_array_equal(few_shot(dataset, 4, 0), few_shot(dataset, 4, 0))
    assert len({tuple(few_shot(dataset, 4, seed)) for seed in (0, 1, 2)}) == 3


def test_at_least_one_shot(make_dataset) -> None:
    with pytest.raises(ConfigError, match="shots is 0"):
        few_shot(make_dataset(), 0, 0)


@pytest.mark.parametrize("domains", [0, 2])
@pytest.mark.parametrize("shots", [None, 3])
def test_servers_images_are_no_clients(make_dataset, domains, shots) -> None:
    dataset = make_dataset(domains=domains)
    clients, server = draw_images(dataset, shots, 2, seed=4)
    assert np.bincount(dataset.labels[server]).tolist() == [2 * max(domains, 1)] * 4
    assert not set(clients) & set(server)
    assert not dataset.is_test[server].any()
    assert (np.diff(server) > 0).all()
    if shots is None:
        assert len(clients) + len(server) == (~dataset.is_test).sum()


def test_servers_images_change_nothing_for_the_clients_where_there_are_enough(make_dataset) -> None:
    dataset = make_dataset()
    alone = few_shot(dataset, 3, 1)
    for server_shots in (1, 2):
        clients, _ = draw_images(dataset, 3, server_shots, 1)
        np.testing.assert_array_equal(clients, alone)


def test_server_cannot_take_every_image_of_a_class(make_dataset) -> None:
    dataset = make_dataset(train=3)
    with pytest.raises(ConfigError, match=r"server_shots 3 none is left"):
        draw_images(dataset, 1, 3, 0)
    with pytest.raises(ConfigError, match="at least 0"):
        draw_images(dataset, 1, -1, 0)
