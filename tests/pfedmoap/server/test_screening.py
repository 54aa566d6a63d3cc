"""Copies, near copies and far prompts: who is served, why not, and that honest clients are."""

import pytest
import torch

from pfedmoap.config.server import PoolOptions
from pfedmoap.server.screening import Candidates, near_copies, screen
from pfedmoap.wire.messages import ClientId

USUAL = PoolOptions()


def prompts(count=12, width=40, seed=0):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def screened(rows, options=USUAL):
    return screen([ClientId(2 * i) for i in range(len(rows))], rows, options)


def slow_groups(rows, reach):
    groups = []
    for row in range(len(rows)):
        for group in groups:
            if float((rows[group[0]] - rows[row]).norm()) <= reach:
                group.append(row)
                break
        else:
            groups.append([row])
    return [group for group in groups if len(group) > 1]


@pytest.mark.parametrize("reach", [0.0, 0.3, 1.5, 9.0, 100.0])
@pytest.mark.parametrize("width", [1, 3, 40, 200])
def test_groups_are_those_of_loops(reach, width):
    rows = prompts(30, width, seed=width).double()
    rows[7], rows[19], rows[23] = rows[2], rows[2] + 0.1, rows[11]
    assert near_copies(rows, reach) == slow_groups(rows, reach)


@pytest.mark.parametrize("width", [65, 300])
def test_nothing_near_is_missed_in_the_direction_that_the_sketch_stretches_most(width):
    """The sketch is public: a copy may be put where it looks furthest away."""
    stream = torch.Generator().manual_seed(0)
    ways = torch.randn(width, 64, dtype=torch.float64, generator=stream)
    worst = torch.linalg.svd(ways, full_matrices=False).U[:, 0]
    rows = prompts(20, width).double()
    rows[13] = rows[4] + 0.99 * worst
    assert near_copies(rows, 1.0) == [[4, 13]]
    assert near_copies(rows, 0.98) == []


def test_copies_far_out_beside_tiny_others():
    rows = prompts(14).double() * 1e-20
    rows[3] = rows[9] = 1e20
    assert near_copies(rows, 1e-22) == [[3, 9]]


def test_of_copies_one_is_served_and_not_to_those_that_have_it():
    rows = prompts()
    rows[5], rows[9] = rows[1], rows[1]
    found = screened(rows)
    assert found.reasons == {
        10: "its prompt is nearly that of client 2",
        18: "its prompt is nearly that of client 2",
    }
    assert found.hidden_from(ClientId(0)) == {10, 18}
    assert found.hidden_from(ClientId(2)) == {10, 18}
    assert found.hidden_from(ClientId(18)) == {2, 10, 18}
    assert found.hidden_from(None) == {10, 18}


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_near_copies_count_in_units_of_the_pool(scale):
    rows = prompts()
    rows[5] = rows[1] + 0.01
    assert set(screened(rows * scale).reasons) == {10}
    assert not screened(rows * scale, PoolOptions(copies=0)).reasons
    rows[5] = rows[1] + 0.5
    assert not screened(rows * scale).reasons


def test_an_army_near_a_victim_is_one_expert():
    rows = prompts(20)
    rows[12:] = rows[3] + 1e-3 * prompts(8, seed=5)
    found = screened(rows)
    assert set(found.reasons) == {2 * i for i in range(12, 20)}
    assert found.hidden_from(ClientId(6)) == set(found.reasons), "and the victim gets none of it"


def test_without_the_option_copies_are_served():
    rows = prompts(4)[:1].expand(4, -1)
    found = screened(rows, PoolOptions(copies=None))
    assert not found.reasons
    assert not found.hidden_from(ClientId(0))


def test_equal_initial_prompts_leave_one_expert_and_no_error():
    rows = prompts(1).expand(6, -1)
    found = screened(rows, PoolOptions(screen=3.0))
    assert set(found.reasons) == {2, 4, 6, 8, 10}
    assert found.hidden_from(ClientId(0)) == {2, 4, 6, 8, 10}
    assert found.hidden_from(ClientId(4)) == {0, 2, 4, 6, 8, 10}


def test_what_is_far_is_served_to_nobody_where_asked_for():
    rows = prompts()
    rows[4] *= 50
    assert not screened(rows).reasons
    found = screened(rows, PoolOptions(screen=3.0))
    assert list(found.reasons) == [8]
    assert "times as far from the others as pool.screen admits" in found.reasons[ClientId(8)]
    assert not screened(rows, PoolOptions(screen=60.0)).reasons


def test_a_far_copy_does_not_stand_for_its_group():
    rows = prompts()
    rows[2] = rows[4] = rows[6] = rows[4] * 50
    assert set(screened(rows, PoolOptions(screen=3.0)).reasons) == {4, 8, 12}


@pytest.mark.parametrize("count", [0, 1])
def test_a_pool_of_none_or_one_serves_it(count):
    assert not screened(prompts(12)[:count], PoolOptions(screen=1.0)).reasons


def test_two_different_prompts_are_both_served():
    assert not screened(prompts(2), PoolOptions(screen=1.0)).reasons


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_every_precision(dtype):
    rows = prompts().to(dtype)
    rows[5] = rows[1]
    assert set(screened(rows).reasons) == {10}


@pytest.mark.parametrize(
    "kind", ["noise", "low rank", "copies", "one far", "one direction", "equal"]
)
def test_candidates_are_those_of_comparing_all_pairs(kind):
    stream = torch.Generator().manual_seed(0)
    rows = torch.randn(300, 90, dtype=torch.float64, generator=stream)
    if kind == "low rank":
        rows = rows[:, :3] @ rows[:3] + 1e-6 * rows
    if kind == "copies":
        rows[100:200] = rows[:100] + 1e-3 * rows[200:]
    if kind == "one far":
        rows[7] *= 1e12
    if kind == "one direction":
        rows = torch.linspace(0, 1, 300, dtype=torch.float64)[:, None] ** 3 * rows[0]
    if kind == "equal":
        rows = rows[:1].expand(300, -1).contiguous()
    for reach in (0.0, 1e-4, 0.05, 3.0, 13.0):
        near = Candidates.make(rows, reach)
        alone = [row for row in range(300) if near.of(row).sum() > 1]
        assert near.rows_with_company() == alone
