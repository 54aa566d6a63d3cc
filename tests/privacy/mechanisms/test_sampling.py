"""Poisson sampling: the promised rates, empty batches, nothing that depends on the data's size."""

import pytest
import torch

from pfedmoap.client.batches import Stream
from pfedmoap.wire.messages import ClientId
from privacy.mechanisms.randomness import Randomness
from privacy.mechanisms.sampling import poisson_batches


def plan(sizes, *, views=1, steps=50, rate=0.25, seed=0, round=1, normaliser=8.0):
    streams = [Stream(0, ClientId(i), round) for i in range(len(sizes))]
    return poisson_batches(
        sizes,
        views,
        streams,
        steps=steps,
        rate=rate,
        normaliser=normaliser,
        randomness=Randomness(seed),
    )


def drawn(plan, client):
    """Which examples are in which step, (S, n)."""
    return [
        plan.index[step, client][plan.weight[step, client] > 0].tolist()
        for step in range(len(plan.index))
    ]


@pytest.mark.parametrize("rate", [0.05, 0.5, 1.0])
def test_every_example_is_included_at_the_promised_rate(rate):
    steps, size = 4000, 6
    counts = torch.zeros(size)
    together = 0
    for chosen in drawn(plan([size], steps=steps, rate=rate), 0):
        assert len(set(chosen)) == len(chosen)
        counts[chosen] += 1
        together += {0, 1} <= set(chosen)
    spread = (rate * (1 - rate) / steps) ** 0.5
    assert bool(((counts / steps - rate).abs() <= 4.5 * spread + 1e-9).all())
    pair = rate**2
    assert abs(together / steps - pair) <= 4.5 * (pair * (1 - pair) / steps) ** 0.5 + 1e-9


def test_empty_batches_step_too():
    empty = plan([3], steps=40, rate=0.01)
    assert any(not chosen for chosen in drawn(empty, 0))
    assert bool(empty.active.all())
    assert empty.active.shape == (40, 1)
    assert min(empty.widths) == 1


def test_steps_and_weights_do_not_depend_on_the_size():
    both = plan([2, 900], steps=7)
    assert both.active.shape == (7, 2)
    assert set(both.weight.unique().tolist()) == {0.0, 1 / 8}


def test_padding_is_behind_the_examples_and_points_nowhere():
    both = plan([2, 40])
    assert bool((both.weight.diff(dim=-1) <= 0).all())
    assert bool((both.index[both.weight == 0] == 0).all())
    for step, width in enumerate(both.widths):
        assert bool((both.weight[step, :, width:] == 0).all())


def test_views_are_drawn_uniformly():
    made = plan([50], views=4, steps=200)
    views = made.view[made.weight > 0]
    shares = torch.bincount(views, minlength=4) / len(views)
    assert bool(((shares - 0.25).abs() < 0.03).all())


def test_the_operating_systems_entropy_is_never_the_same():
    assert not torch.equal(plan([99], seed=None).index, plan([99], seed=None).index)


def test_a_seed_repeats_a_clients_draws_whoever_else_trains():
    alone, beside = plan([9]), plan([9, 30])
    assert drawn(alone, 0) == drawn(beside, 0)
    assert drawn(alone, 0) != drawn(plan([9], round=2), 0)
