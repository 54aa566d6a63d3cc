"""Merging sets: known prompts are found again from permuted, noisy copies."""

import pytest
import torch

from pfedmoap.errors import ConfigError
from pfedmoap.methods.pfpt.generative_model import PromptModel, best_assignment
from pfedmoap.methods.pfpt.merging import Merging, estimate_scatter, merge, sequential_start
from pfedmoap.seeding import generator

torch.set_num_threads(1)


def copies(
    known: int, width: int, clients: int, noise: float, *, missing: int = 0, seed: int = 0
) -> tuple[torch.Tensor, list[torch.Tensor], list[torch.Tensor]]:
    """Known prompts, every client's noisy copies in an order of its own, and these orders."""
    stream = torch.Generator().manual_seed(seed)
    truth = torch.randn(known, width, generator=stream)
    orders = [torch.randperm(known, generator=stream)[: known - missing] for _ in range(clients)]
    sets = [
        truth[order] + noise * torch.randn(len(order), width, generator=stream) for order in orders
    ]
    return truth, sets, orders


def nearest_known(prompts: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    return torch.cdist(prompts, truth).argmin(1)


@pytest.mark.parametrize(
    ("known", "width", "clients", "noise", "missing"),
    [(6, 16, 5, 0.1, 0), (6, 16, 5, 0.4, 0), (6, 16, 1, 0.1, 0), (8, 32, 6, 0.2, 3)],
)
def test_known_prompts_are_recovered_from_permuted_noisy_copies(
    known, width, clients, noise, missing
):
    truth, sets, orders = copies(known, width, clients, noise, missing=missing)
    found = merge(sets, Merging(), seed=0)
    assert len(found.prompts) == known
    assert int(found.support.sum()) == sum(len(order) for order in orders)
    names = nearest_known(found.prompts, truth)
    assert names.unique().numel() == known
    for assignment, order in zip(found.assignment, orders, strict=True):
        assert torch.equal(names[assignment], order)


def test_merging_shuffled_sets_beats_averaging_them_by_position():
    truth, sets, _ = copies(8, 32, 6, 0.2)
    merged = merge(sets, Merging(), seed=0).prompts
    averaged = torch.stack(sets).mean(0)
    error = torch.cdist(merged, truth).min(1).values.mean()
    assert error < 0.2 * torch.cdist(averaged, truth).min(1).values.mean()
    assert error < 0.6 * torch.cdist(sets[0], truth).min(1).values.mean()


def test_the_order_of_a_clients_prompts_is_irrelevant():
    _, sets, _ = copies(6, 16, 4, 0.2)
    straight = merge(sets, Merging(), seed=0)
    flipped = merge([one.flip(0) for one in sets], Merging(), seed=0)
    gaps = torch.cdist(straight.prompts, flipped.prompts)
    assert gaps.min(1).values.max() < 1e-5


def test_the_result_does_not_depend_on_unit_and_origin():
    _, sets, _ = copies(5, 16, 4, 0.2)
    plain = merge(sets, Merging(), seed=0).prompts
    moved = merge([0.01 * one + 7 for one in sets], Merging(), seed=0).prompts
    assert torch.allclose(0.01 * plain + 7, moved, atol=1e-4)


def test_exact_copies_of_untouched_prompts_merge_into_one():
    """Pitfall: clients send back what they never touched; it must not multiply."""
    truth, _, _ = copies(5, 16, 1, 0.0)
    sets = []
    for client in range(4):
        own = truth.clone()
        own[client] += 0.05
        sets.append(own)
    found = merge(sets, Merging(), seed=0)
    assert found.support.tolist() == [4] * 5
    assert torch.allclose(found.prompts[4], truth[4], atol=1e-6)
    assert torch.allclose(found.prompts[0], truth[0] + 0.05 / 4, atol=1e-6)


def test_sets_of_unequal_size_need_no_padding():
    """Pitfall: clients that send only what they used send different numbers of prompts."""
    _, sets, _ = copies(6, 16, 3, 0.1)
    found = merge([sets[0], sets[1][:2], sets[2][:5]], Merging(), seed=0)
    assert len(found.prompts) == 6
    assert [len(one) for one in found.assignment] == [6, 2, 5]


def test_a_prompt_that_fits_none_opens_a_candidate():
    _, sets, _ = copies(6, 16, 4, 0.1)
    stranger = torch.randn(1, 16, generator=torch.Generator().manual_seed(99))
    found = merge([*sets[:3], torch.cat([sets[3], stranger])], Merging(), seed=0)
    assert sorted(found.support.tolist()) == [1] + [4] * 6


def test_unrelated_sets_are_not_merged():
    stream = torch.Generator().manual_seed(3)
    sets = [torch.randn(4, 128, generator=stream) for _ in range(3)]
    assert len(merge(sets, Merging(), seed=0).prompts) == 12
    narrow = [one[:, :32] for one in sets]
    assert len(merge(narrow, Merging(largest_scatter=0.25), seed=0).prompts) == 12


def test_sets_that_overlap_in_part_need_a_small_bound_on_the_scatter():
    """Most prompts of a set have then no partner, and a typical distance is one of strangers."""
    truth, _, _ = copies(20, 32, 1, 0.0)
    stream = torch.Generator().manual_seed(5)
    rows = [torch.randperm(20, generator=stream)[:5] for _ in range(6)]
    sets = [truth[own] + 0.05 * torch.randn(5, 32, generator=stream) for own in rows]
    found = merge(sets, Merging(largest_scatter=0.25), seed=0)
    whose: dict[int, set[int]] = {}
    for own, assigned in zip(rows, found.assignment, strict=True):
        for name, candidate in zip(own.tolist(), assigned.tolist(), strict=True):
            whose.setdefault(candidate, set()).add(name)
    assert len(found.prompts) == len(torch.cat(rows).unique())
    assert all(len(names) == 1 for names in whose.values())


def test_prompts_that_were_trained_unequally_far_still_merge_with_their_copies():
    """With a typical distance as the measure, the pool grew by the far ones in every round."""
    truth, _, _ = copies(8, 128, 1, 0.0)
    stream = torch.Generator().manual_seed(1)
    far = torch.tensor([0.05] * 5 + [0.4] * 3)[:, None]  # three of eight that clients train much
    sets = [truth + far * torch.randn(truth.shape, generator=stream) for _ in range(6)]
    assert merge(sets, Merging(), seed=0).support.tolist() == [6] * 8


def test_equal_prompts_everywhere_are_one():
    sets = [torch.ones(1, 8)] * 3
    assert torch.allclose(merge(sets, Merging(), seed=0).prompts, torch.ones(1, 8))


def test_the_released_form_recovers_copies_that_hardly_differ_and_keeps_others_apart():
    """With every prompt a candidate, each fits its own perfectly; so we start elsewhere."""
    released = Merging(start="random", patience=None, passes=10, result="candidates")
    _, sets, _ = copies(4, 16, 3, 1e-4)
    assert len(merge(sets, released, seed=0).prompts) == 4
    _, sets, _ = copies(4, 16, 3, 0.3)
    assert len(merge(sets, released, seed=0).prompts) == 12
    assert len(merge(sets, Merging(), seed=0).prompts) == 4


def released_merge(sets, model, assignment, passes):
    """PFPT's released loop, term by term: one client's step, and the matching of before it."""
    adam = torch.optim.Adam(model.parameters(), lr=1e-3)
    now = [one.tolist() for one in assignment]
    for _ in range(passes):
        for t, prompts in enumerate(sets):
            adam.zero_grad()
            spread = model.scatter(model.candidates).sigmoid()  # a standard deviation
            popular = model.popularity(model.candidates).sigmoid()[:, 0]
            density = [
                torch.distributions.Normal(phi, s).log_prob(prompts).sum(-1)
                for phi, s in zip(model.candidates, spread, strict=True)
            ]
            score = torch.stack(density, dim=1)  # (u, n)
            u = len(prompts)
            loss = -sum(score[k, i] + u * popular[i].log() for k, i in enumerate(now[t]))
            usage = torch.stack(
                [p.log() if i in now[t] else (1 - p).log() for i, p in enumerate(popular)]
            )
            better = best_assignment((score + u * usage).detach()).tolist()
            loss.backward()
            adam.step()
            now[t] = better
    return now, model.candidates.detach()


def test_the_released_loop_is_followed_step_by_step():
    """All released options together: same assignments and candidates as a slow version."""
    _, sets, _ = copies(4, 16, 3, 0.3)
    sets = [one.double() for one in sets]
    options = Merging(
        start="random",
        spread="deviation",
        usage="incumbent",
        objective="released",
        patience=None,
        passes=12,
        result="candidates",
    )
    found = merge(sets, options, seed=3)

    stream = generator(3, "random assignment")
    start = [torch.randperm(12, generator=stream)[:4] for _ in sets]
    model = PromptModel(torch.cat(sets), "deviation", "incumbent", seed=3)
    now, candidates = released_merge(sets, model, start, 12)
    kept = sorted({i for one in now for i in one})
    assert [[kept.index(i) for i in one] for one in now] == [a.tolist() for a in found.assignment]
    torch.testing.assert_close(found.prompts, candidates[kept], rtol=0, atol=1e-9)


def test_the_scatter_is_estimated_without_the_exact_copies():
    _, sets, _ = copies(20, 64, 2, 0.1)
    assert estimate_scatter([s.double() for s in sets]) == pytest.approx(0.011, rel=0.2)
    sets[1] = sets[0].clone()
    sets[1][0] += 0.1
    assert estimate_scatter([s.double() for s in sets]) == pytest.approx(0.005, rel=0.01)


def test_a_start_gives_each_of_a_clients_prompts_its_own_candidate():
    _, sets, _ = copies(6, 16, 5, 0.8)
    candidates, assignment = sequential_start([one.double() for one in sets])
    for chosen in assignment:
        assert chosen.unique().numel() == len(chosen)
    assert torch.cat(assignment).unique().numel() == len(candidates)


def test_nonsense_options_are_refused():
    with pytest.raises(ConfigError, match="passes"):
        Merging(passes=-1)
    with pytest.raises(ConfigError, match="patience"):
        Merging(patience=0)
    with pytest.raises(ConfigError, match="largest_scatter"):
        Merging(largest_scatter=1.0)
