"""Robust means against slow, obvious versions of themselves, and what hostile vectors can do."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from pfedmoap.config.server import ServerOptions
from pfedmoap.server.robust_means import (
    clipped_mean,
    coordinate_median,
    declared,
    geometric_median,
    multi_krum,
    robust_mean,
    trimmed_mean,
)

RULES = ("mean", "clipped_mean", "median", "trimmed_mean", "geometric_median", "multi_krum")


def vectors(count, width=6, seed=0):
    stream = torch.Generator().manual_seed(seed)
    return torch.randn(count, width, dtype=torch.float64, generator=stream)


def weights_of(count, seed=1):
    weights = 0.1 + torch.rand(
        count, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
    return weights / weights.sum()


def equal(count):
    return torch.full((count,), 1 / count, dtype=torch.float64)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 10])
def test_median_and_trimmed_mean_are_those_of_loops(count):
    rows = vectors(count).numpy()
    median = [np.median(column) for column in rows.T]
    np.testing.assert_allclose(coordinate_median(torch.tensor(rows)), median, atol=1e-15)
    for cut in range((count - 1) // 2 + 1):
        kept = [sorted(column)[cut : count - cut] for column in rows.T]
        mean = [sum(each) / len(each) for each in kept]
        np.testing.assert_allclose(trimmed_mean(torch.tensor(rows), cut), mean, atol=1e-15)


@pytest.mark.parametrize("count", [1, 2, 3, 6, 9])
def test_the_clipped_mean_is_that_of_a_loop(count):
    rows, weights, centre = vectors(count), weights_of(count), vectors(1, seed=5)[0]
    lengths = [float((row - centre).norm()) for row in rows]
    bound = float(np.median(lengths))
    expected = centre.clone()
    for row, weight, length in zip(rows, weights, lengths, strict=True):
        expected += weight * (row - centre) * min(1.0, bound / length)
    torch.testing.assert_close(clipped_mean(rows, weights, centre), expected)


def test_clients_that_did_not_move_do_not_hold_the_clipped_mean_still():
    centre = vectors(1, seed=5)[0]
    rows = centre.repeat(5, 1)
    torch.testing.assert_close(clipped_mean(rows, equal(5), centre), centre)
    rows[0] += 1.0
    torch.testing.assert_close(clipped_mean(rows, equal(5), centre), centre + 0.2)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 12])
@pytest.mark.parametrize("width", [1, 2, 6])
def test_no_point_is_better_than_the_geometric_median(count, width):
    """The least sum of distances that scipy finds from many starts, among them all vectors."""
    rows, weights = vectors(count, width, seed=count), weights_of(count)
    array, shares = rows.numpy(), weights.numpy()

    def cost(point):
        return float(shares @ np.linalg.norm(array - point, axis=1))

    starts = [*array, array.mean(0)]
    best = min(minimize(cost, s, method="Nelder-Mead", tol=1e-10).fun for s in starts)
    best = min(best, *(cost(point) for point in array))
    assert cost(geometric_median(rows, weights).numpy()) <= best + 1e-7


def test_the_geometric_median_does_not_stay_at_a_vector_where_it_starts():
    rows = torch.tensor([[0.0], [1.0], [10.0]], dtype=torch.float64)
    weights = torch.tensor([0.1, 0.1, 0.8], dtype=torch.float64)
    torch.testing.assert_close(geometric_median(rows, weights), rows[2], atol=1e-5, rtol=0)


def test_the_geometric_median_has_no_unit():
    rows, weights = vectors(7), weights_of(7)
    one = geometric_median(rows, weights)
    for scale in (1e-150, 1e-12, 1e9, 1e150):
        torch.testing.assert_close(geometric_median(rows * scale, weights) / scale, one)


@pytest.mark.parametrize(("count", "hostile"), [(5, 1), (7, 2), (9, 3), (12, 2)])
def test_multi_krum_is_that_of_loops(count, hostile):
    rows = vectors(count, seed=count)
    array = rows.numpy()
    scores = []
    for i in range(count):
        apart = sorted(((array[i] - array[j]) ** 2).sum() for j in range(count) if j != i)
        scores.append(sum(apart[: count - hostile - 2]))
    best = sorted(range(count), key=lambda i: (scores[i], i))[: count - hostile]
    expected = array[sorted(best)].mean(0)
    np.testing.assert_allclose(multi_krum(rows, hostile), expected, atol=1e-14)


def test_of_equal_scores_multi_krum_keeps_the_lower_rows():
    rows = torch.tensor([[0.0], [0.0], [4.0], [4.0], [2.0]], dtype=torch.float64)
    # Scores over two closest: 4, 4, 4, 4, 8 -> with f = 1 the last one goes.
    torch.testing.assert_close(multi_krum(rows, 1), torch.tensor([2.0], dtype=torch.float64))
    same = torch.ones(6, 3, dtype=torch.float64)
    torch.testing.assert_close(multi_krum(same, 1), same[0])


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("count", [1, 2, 3, 5, 10])
def test_order_does_not_matter_and_equal_vectors_are_their_mean(rule, count):
    options, rows, weights = ServerOptions(aggregation=rule), vectors(count), weights_of(count)
    found = robust_mean(rows, weights, options)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(robust_mean(rows[order], weights[order], options), found)
    same = rows[:1].expand(count, -1)
    torch.testing.assert_close(robust_mean(same, weights, options), rows[0])
    if count == 1:
        torch.testing.assert_close(found, rows[0])


@pytest.mark.parametrize("rule", RULES)
def test_where_the_rows_are_moved_the_mean_moves_along(rule):
    options, rows, shift = ServerOptions(aggregation=rule), vectors(9), vectors(1, seed=8)[0]
    found = robust_mean(rows, equal(9), options, torch.zeros_like(shift))
    torch.testing.assert_close(robust_mean(rows + shift, equal(9), options, shift), found + shift)


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "mean"])
@pytest.mark.parametrize("attack", ["far", "inliers", "split"])
def test_two_hostile_ones_in_ten_move_the_result_no_further_than_the_honest_spread(rule, attack):
    honest = vectors(8, 20, seed=4) + 3
    far = {
        "far": torch.full((2, 20), 1e6, dtype=torch.float64),
        "inliers": honest.mean(0).expand(2, -1) * -10,
        "split": torch.stack([honest[0] * 1e3, honest[0] * -1e3]),
    }[attack]
    rows = torch.cat([far[:1], honest, far[1:]])
    options = ServerOptions(aggregation=rule)
    found = robust_mean(rows, equal(10), options, torch.full((20,), 2.9, dtype=torch.float64))
    spread = (honest - honest.mean(0)).norm(dim=1).max()
    assert (found - honest.mean(0)).norm() < spread
    plain = robust_mean(rows, equal(10), ServerOptions())
    assert attack == "split" or (plain - honest.mean(0)).norm() > spread


@pytest.mark.parametrize(("rule", "least"), [("trimmed_mean", 3), ("multi_krum", 5)])
def test_a_cohort_that_is_too_small_for_a_hostile_client_is_averaged(rule, least):
    for count in range(1, least + 2):
        rows = vectors(count)
        found = robust_mean(rows, equal(count), ServerOptions(aggregation=rule, byzantine=0.4))
        assert torch.allclose(found, rows.mean(0)) == (count < least)


def test_more_declared_clients_than_a_cohort_bears_are_cut_to_what_it_bears():
    assert [declared(0.2, count, (count - 1) // 2) for count in (1, 2, 3, 5, 6, 10, 11)] == [
        *(0, 0, 1, 1, 2, 2, 3)
    ]
    assert [declared(0.4, count, (count - 3) // 2) for count in (1, 2, 4, 5, 7, 10)] == [
        *(0, 0, 0, 1, 2, 3)
    ]
    assert declared(0.0, 10, 4) == 0
    assert declared(0.1 + 0.2, 10, 4) == 3, "rounding of the share is no client more"


def test_a_larger_share_cuts_more_away():
    rows = torch.arange(10.0, dtype=torch.float64)[:, None] ** 3
    means = [
        float(robust_mean(rows, equal(10), ServerOptions(aggregation="trimmed_mean", byzantine=b)))
        for b in (0.0, 0.1, 0.2, 0.4)
    ]
    assert all(later < earlier for earlier, later in pairwise(means))
