"""Bounds on changes and weights: the rule, small cohorts, and what honest clients keep."""

import math

import pytest
import torch

from pfedmoap.config.server import ServerOptions
from pfedmoap.server.aggregation import combine
from pfedmoap.server.bounding import bound_updates
from pfedmoap.server.robust_limits import robust_limit
from pfedmoap.wire.messages import ClientId, Update

ZERO = torch.zeros(3, 2)


def moving(lengths, sizes=None, start=ZERO, dtype=torch.float32):
    """Updates whose context has moved by these lengths, each in a direction of its own."""
    stream = torch.Generator().manual_seed(1)
    updates = []
    for i, length in enumerate(lengths):
        way = torch.randn(start.shape, generator=stream, dtype=torch.float64)
        context = start.double() + length * way / way.norm()
        size = None if sizes is None else sizes[i]
        updates.append(Update(1, ClientId(i), {"context": context.to(dtype)}, size))
    return updates


def bounded(updates, start=ZERO, **options):
    starts = {update.client: {"context": start} for update in updates}
    return bound_updates(updates, starts, ServerOptions(**{"max_change": 3.0} | options))


def lengths_of(updates, start=ZERO):
    return [float((u.arrays["context"].double() - start.double()).norm()) for u in updates]


def test_the_limit_is_that_of_the_formula():
    assert robust_limit(torch.tensor([1.0, 1.0, 1.0, 9.0]), 3.0) == 3.0
    spread = torch.tensor([1.0, 2.0, 4.0, 8.0, 20.0])  # median 4, deviations 3, 2, 0, 4, 16
    assert robust_limit(spread, 3.0) == pytest.approx(4 + 6 * 1.4826 * 3)
    assert robust_limit(spread * 7, 3.0) == pytest.approx(7 * robust_limit(spread, 3.0))


@pytest.mark.parametrize("values", [[], [5.0], [1.0, 1e9], [0.0, 0.0, 0.0, 1.0, 1e9]])
def test_of_fewer_than_three_that_moved_nobody_is_too_long(values):
    assert math.isinf(robust_limit(torch.tensor(values), 3.0))


def test_zeros_do_not_forbid_others_to_move():
    assert robust_limit(torch.tensor([0.0] * 7 + [1.0, 1.0, 1.0]), 3.0) == 3.0


def test_a_hundredfold_change_is_shortened_in_its_direction_and_reported():
    updates = moving([1.0] * 9 + [100.0])
    found, report = bounded(updates)
    assert all(one is other for one, other in zip(found[:9], updates[:9], strict=True))
    assert lengths_of(found)[9] == pytest.approx(3.0, rel=1e-5)
    cut, whole = found[9].arrays["context"], updates[9].arrays["context"]
    torch.testing.assert_close(cut * 100 / 3, whole, rtol=1e-5, atol=1e-5)
    assert list(report.shortened) == [9]
    excess = report.shortened[ClientId(9)]["context"]
    assert (excess.found, excess.limit) == pytest.approx((100.0, 3.0), rel=1e-5)


def test_the_change_counts_not_the_upload():
    start = torch.full((3, 2), 50.0)
    updates = moving([1.0, 1.1, 0.9, 1.2], start=start)
    found, report = bounded(updates, start)
    assert found == updates
    assert not report.shortened


def test_an_honest_client_that_moves_far_among_clients_that_differ_keeps_its_change():
    updates = moving([0.2, 0.5, 1.0, 1.6, 2.4, 4.0])
    assert not bounded(updates)[1].shortened


@pytest.mark.parametrize("lengths", [[], [1e6], [1.0, 1e6], [0.0, 0.0, 0.0], [0.0, 0.0, 5.0]])
def test_small_and_still_cohorts_are_left_as_they_are(lengths):
    updates = moving(lengths)
    found, report = bounded(updates)
    assert found == updates
    assert not report.shortened


def test_two_honest_clients_bound_a_third():
    assert lengths_of(bounded(moving([1.0, 1.0, 1e4]))[0])[2] == pytest.approx(3.0, rel=1e-5)


def test_each_array_has_its_own_limit_and_what_was_not_sent_starts_at_zero():
    updates = [
        Update(
            1,
            ClientId(i),
            {"control": torch.full((4,), 1e-3 * (500 if i == 2 else 1)), "used": torch.ones(3) > 0},
            None,
        )
        for i in range(5)
    ]
    found, report = bound_updates(updates, {}, ServerOptions(max_change=6.0))
    assert float(found[2].arrays["control"].norm()) == pytest.approx(12e-3, rel=1e-5)
    assert set(report.shortened[ClientId(2)]) == {"control"}
    assert found[2].arrays["used"].dtype == torch.bool


def test_fewer_rows_than_were_sent_move_from_the_nearest_row():
    start = torch.eye(6)[:4] * 10
    updates = [
        Update(1, ClientId(i), {"context": start[rows] + far}, None)
        for i, (rows, far) in enumerate([([0, 1], 0.1), ([2], 0.1), ([1, 3], 0.1), ([3], 4.0)])
    ]
    found, report = bounded(updates, start)
    assert list(report.shortened) == [3]
    away = found[3].arrays["context"] - start[3]
    assert float(away.norm()) < 1.1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtypes_stay(dtype):
    found, report = bounded(moving([1.0] * 5 + [60.0], dtype=dtype))
    assert found[5].arrays["context"].dtype == dtype
    assert lengths_of(found)[5] == pytest.approx(3.0, rel=0.05)
    assert report.shortened


def test_no_bound_and_another_one():
    updates = moving([1.0] * 5 + [60.0])
    usual = bound_updates(updates, {u.client: {"context": ZERO} for u in updates}, ServerOptions())
    assert lengths_of(usual[0])[5] == pytest.approx(5.0, rel=1e-5)
    assert bounded(updates, max_change=None)[0] == updates
    assert lengths_of(bounded(updates, max_change=1.5)[0])[5] == pytest.approx(1.5, rel=1e-5)


def test_a_billion_claimed_examples_weigh_as_three_clients():
    updates = moving([1.0] * 10, [20] * 9 + [10**9])
    found, report = bounded(updates)
    assert [update.num_examples for update in found] == [20] * 9 + [60]
    assert (report.capped[ClientId(9)].found, report.capped[ClientId(9)].limit) == (10**9, 60)


def test_uneven_honest_sizes_are_not_capped():
    assert not bounded(moving([1.0] * 6, [3, 8, 15, 22, 40, 70]))[1].capped


@pytest.mark.parametrize("sizes", [[10**9], [5, 10**9], [None, None, None], None])
def test_small_cohorts_and_withheld_sizes_have_no_robust_cap(sizes):
    updates = moving([1.0] * len(sizes or "abc"), sizes)
    assert bounded(updates)[0] == updates


def test_an_absolute_cap_counts_in_every_cohort():
    found, report = bounded(moving([1.0, 1.0], [5, 10**9]), max_examples=50)
    assert [update.num_examples for update in found] == [5, 50]
    assert list(report.capped) == [1]


def test_who_withholds_a_count_that_others_state_weighs_as_the_least_of_them():
    found, reported = bounded(moving([1.0] * 4, [50, None, 20, 40]))
    assert [update.num_examples for update in found] == [50, 20, 20, 40]
    assert not reported.capped
    combine({"context": ZERO}, found)  # which refuses counts of some clients alone
    found, reported = bounded(moving([1.0] * 4, [None, None, 10**12, None]))
    assert {update.num_examples for update in found} == {10**12}, "all weigh the same"
    found, _ = bounded(moving([1.0] * 5, [None, None, 10**12, 1, None]))
    assert [update.num_examples for update in found] == [1, 1, 3, 1, 1]
    assert bounded(moving([1.0] * 3))[0][0].num_examples is None
