"""Which vectors are near each other: as by loops, wherever somebody puts a copy."""

import numpy as np
import pytest
import torch

from pfedmoap.server.company import Company

EXACT = "donot_use_mm_for_euclid_dist"


def vectors(count=12, width=40, seed=0):
    stream = torch.Generator().manual_seed(seed)
    return torch.randn(count, width, dtype=torch.float64, generator=stream)


def groups(rows, reach):
    return Company(rows).groups(reach, np.arange(len(rows)))


def slow_groups(rows, reach):
    found, near = [], torch.cdist(rows, rows, compute_mode=EXACT) <= reach
    for row in range(len(rows)):
        for group in found:
            if near[group[0], row]:
                group.append(row)
                break
        else:
            found.append([row])
    return [group for group in found if len(group) > 1]


@pytest.mark.parametrize("reach", [0.0, 0.3, 1.5, 9.0, 100.0])
@pytest.mark.parametrize("width", [1, 3, 40, 200])
def test_groups_are_those_of_loops(reach, width):
    rows = vectors(30, width, seed=width)
    rows[7], rows[19], rows[23] = rows[2], rows[2] + 0.1, rows[11]
    assert groups(rows, reach) == slow_groups(rows, reach)


@pytest.mark.parametrize("kind", ["low rank", "copies", "one far", "one direction", "equal"])
def test_groups_of_every_shape_of_pool(kind):
    rows = vectors(300, 90)
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
        assert groups(rows, reach) == slow_groups(rows, reach)


@pytest.mark.parametrize("width", [65, 300])
def test_nothing_near_is_missed_in_the_direction_that_sketches_stretch_most(width):
    """Sketches are public: a copy may be put where it looks furthest away."""
    rows = vectors(20, width)
    for seed in range(5):
        ways = vectors(width, 64, seed)
        rows[13] = rows[4] + 0.99 * torch.linalg.svd(ways, full_matrices=False).U[:, 0]
        assert groups(rows, 1.0) == [[4, 13]]
        assert groups(rows, 0.98) == []


def test_copies_far_out_beside_tiny_others():
    rows = vectors(14) * 1e-20
    rows[3] = rows[9] = 1e20
    assert groups(rows, 1e-22) == [[3, 9]]


def test_a_vector_far_beyond_all_others_may_join_later():
    rows = vectors(14)
    company = Company(rows)
    assert company.groups(0.1, np.arange(14)) == []
    rows = rows.clone()
    rows[5] *= 1e25
    rows[8] = rows[2]
    company.follow(rows, [5, 8])
    assert company.groups(0.1, np.arange(14)) == [[2, 8]]


def test_the_given_order_says_who_comes_first():
    rows = vectors(6)
    rows[4] = rows[1]
    assert Company(rows).groups(0.1, np.array([5, 4, 3, 2, 1, 0])) == [[4, 1]]


def test_a_distance_that_grows_and_shrinks_finds_what_a_new_search_finds():
    rows = vectors(60, 20)
    company = Company(rows)
    for reach in (0.5, 3.0, 4.5, 5.0, 0.0, 4.0):
        assert company.groups(reach, np.arange(60)) == slow_groups(rows, reach)
