"""Copies, near copies and far prompts: who is served, why not, and that honest clients are."""

import numpy as np
import pytest
import torch

from pfedmoap.config.server import PoolOptions
from pfedmoap.server.robust_limits import robust_limit
from pfedmoap.server.screening import MEASURED, Screener, measured_rows
from pfedmoap.wire.messages import ClientId

USUAL = PoolOptions()
EXACT = "donot_use_mm_for_euclid_dist"


def prompts(count=12, width=40, seed=0):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def screened(rows, options=USUAL):
    return Screener(rows, 2 * np.arange(len(rows))).screened(options)


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


def test_a_pool_of_one_serves_it():
    assert not screened(prompts(1), PoolOptions(screen=1.0)).reasons


def test_two_different_prompts_are_both_served():
    assert not screened(prompts(2), PoolOptions(screen=1.0)).reasons


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_every_precision(dtype):
    rows = prompts().to(dtype)
    rows[5] = rows[1]
    assert set(screened(rows).reasons) == {10}


def slow(rows, ids, options):
    """Verdicts by loops over all prompts, in float64, with the medians of all."""
    order = np.argsort(ids)
    rows, clients = rows[torch.from_numpy(order)].double(), ids[order].tolist()
    away = (rows - rows.median(dim=0).values).norm(dim=1)
    far = {c for c, a in zip(clients, away, strict=True) if a > robust_limit(away, options.screen)}
    reach = options.copies * float(away.quantile(0.5))
    groups, near = [], torch.cdist(rows, rows, compute_mode=EXACT) <= reach
    for row in range(len(rows)):
        for group in groups:
            if near[group[0], row]:
                group.append(row)
                break
        else:
            groups.append([row])
    hidden, alike = set(far), {}
    for group in (group for group in groups if len(group) > 1):
        members = [clients[row] for row in group]
        hidden.update([member for member in members if member not in far][1:])
        alike |= {member: {*members} - {member} for member in members}
    return hidden, alike


def disguised(rows, stream):
    """Uploads that resemble prompts of others: copies, and what only looks like one."""
    chosen = rows[torch.randint(len(rows), (len(rows),), generator=stream)]
    noise = torch.randn(chosen.shape, generator=stream)
    noise = noise / noise.norm(dim=1, keepdim=True) * chosen.norm(dim=1, keepdim=True)
    one = torch.zeros_like(chosen)
    one[:, 0] = chosen.norm(dim=1)
    mixed = chosen[:, torch.randperm(chosen.shape[1], generator=stream)]
    kinds = [chosen, chosen * 1.01, chosen * 1.2, -chosen, mixed, chosen + 0.03 * noise]
    kinds += [chosen + 0.06 * noise, chosen + 1e-6 * noise, chosen + 0.049 * one, noise, noise * 99]
    which = torch.randint(len(kinds), (len(rows),), generator=stream)
    return torch.stack(kinds)[which, torch.arange(len(rows))]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("width", [3, 96])
def test_a_pool_that_changes_is_screened_as_by_loops(width, seed):
    """Whatever changes, verdicts are those of a pool that is made anew, and those of loops."""
    stream = torch.Generator().manual_seed(seed)
    start = torch.randn(width, generator=stream)
    rows = start + 0.3 * torch.randn(20, width, generator=stream)
    ids = torch.randperm(999, generator=stream)[:999].numpy()
    options = PoolOptions(copies=0.05, screen=4.0)
    screener = Screener(rows.clone(), ids[:20])
    for _ in range(8):
        expected = slow(rows, ids[: len(rows)], options)
        for found in (screener, Screener(rows.clone(), ids[: len(rows)])):
            screened = found.screened(options)
            assert ({*screened.reasons}, screened.alike) == expected
        before = len(rows)
        rows = torch.cat([rows, disguised(rows, stream)[: before // 4]])
        again = torch.randperm(before, generator=stream)[: before // 3]
        rows[again] = disguised(rows, stream)[again]
        changed = [*again.tolist(), *range(before, len(rows))]
        screener.follow(rows.clone(), changed, ids[: len(rows)])


def test_an_update_of_a_large_pool_reads_no_prompt_that_it_does_not_concern():
    class Counted:
        def __init__(self, rows):
            self.rows, self.read = rows, 0
            self.shape = rows.shape

        def __len__(self):
            return len(self.rows)

        def __getitem__(self, some):
            found = self.rows[some]
            self.read += len(found)
            return found

    options = PoolOptions(copies=0.05, screen=3.0)
    rows = Counted(prompts(6000, 80))
    rows.rows[17] = rows.rows[4]
    screener = Screener(rows, np.arange(6000))
    assert {*screener.screened(options).reasons} == {17}
    usual = next(i for i in range(30, 6000) if i not in {*measured_rows(np.arange(6000))})
    rows.read = 0
    rows.rows[usual] = rows.rows[21] + 0.01
    screener.follow(rows, [usual], np.arange(6000))
    assert {*screener.screened(options).reasons} == {17, usual}
    assert rows.read <= 8


def test_units_of_a_large_pool_are_those_of_some_that_ids_alone_decide():
    ids = np.random.default_rng(0).permutation(5000)
    chosen = ids[measured_rows(ids)]
    assert len(chosen) == MEASURED
    assert {*chosen} == {*np.arange(5000)[measured_rows(np.arange(5000))]}
    assert abs(float(np.mean(chosen)) - 2500) < 200
    assert measured_rows(np.arange(MEASURED)) == list(range(MEASURED))
