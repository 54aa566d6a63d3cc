"""Paired differences and the coverage of their intervals."""

import numpy as np
import pytest

from eval.comparison.paired import paired_difference
from pfedmoap.errors import DataError
from pfedmoap.wire.messages import ClientId


def clients(*values: float) -> dict[ClientId, float]:
    return {ClientId(i): value for i, value in enumerate(values)}


def test_interval_over_seeds_by_hand():
    # mean differences .1, .2, .3: mean .2, standard error .1 / sqrt(3), t(2; .975) = 4.302653
    method = {s: clients(0.5 + 0.1 * (s + 1), 0.5 + 0.1 * (s + 1)) for s in range(3)}
    reference = {s: clients(0.5, 0.5) for s in range(3)}
    gap = paired_difference(method, reference)
    assert gap.mean == pytest.approx(0.2)
    assert gap.high == pytest.approx(0.2 + 4.302653 * 0.1 / 3**0.5, abs=1e-6)
    assert (gap.unit, gap.units, gap.wins, gap.losses) == ("seeds", 3, 1.0, 0.0)
    assert not gap.clear


def test_one_seed_is_marked_as_over_clients():
    gap = paired_difference({0: clients(0.5, 0.7, 0.9)}, {0: clients(0.4, 0.6, 0.8)})
    assert (gap.unit, gap.units) == ("clients", 3)
    assert gap.low == pytest.approx(0.1)
    assert gap.clear


def test_one_pair_alone_has_no_interval_and_is_not_over_clients():
    gap = paired_difference({0: clients(0.5)}, {0: clients(0.4)})
    assert (gap.low, gap.unit, gap.units) == (None, "seeds", 1)


def test_ties_are_neither_wins_nor_losses():
    gap = paired_difference({0: clients(0.5, 0.7, 0.1)}, {0: clients(0.5, 0.6, 0.8)})
    assert (gap.wins, gap.losses) == pytest.approx((1 / 3, 1 / 3))


def test_pairing_removes_what_clients_have_in_common():
    rng = np.random.default_rng(0)
    level = rng.random((5, 20))  # clients differ far more than methods do
    method = {s: clients(*(level[s] + 0.01)) for s in range(5)}
    reference = {s: clients(*level[s]) for s in range(5)}
    gap = paired_difference(method, reference)
    assert gap.clear
    assert gap.high - gap.low < 1e-9


def test_swapping_the_methods_mirrors_the_interval():
    a, b = {s: clients(0.1 * s, 0.4) for s in range(4)}, {s: clients(0.3, 0.2) for s in range(4)}
    there, back = paired_difference(a, b), paired_difference(b, a)
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low))


def test_only_common_seeds_count_and_clients_must_agree():
    gap = paired_difference({0: clients(0.5), 1: clients(0.9)}, {1: clients(0.8)})
    assert (gap.mean, gap.low) == (pytest.approx(0.1), None)
    with pytest.raises(DataError, match="no seed"):
        paired_difference({0: clients(0.5)}, {1: clients(0.5)})
    with pytest.raises(DataError, match="other clients"):
        paired_difference({0: clients(0.5)}, {0: clients(0.5, 0.6)})


def test_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(400):
        effects = 0.02 + 0.05 * rng.standard_normal(3)  # each seed has its own effect
        method = {s: clients(*(0.5 + effects[s] + 0.05 * rng.standard_normal(8))) for s in range(3)}
        gap = paired_difference(method, {s: clients(*[0.5] * 8) for s in range(3)})
        hits += gap.low <= 0.02 <= gap.high
    assert 0.92 < hits / 400 < 0.98
