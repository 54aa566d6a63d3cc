"""Accountants against independent truths: exact formulas, brute-force integrals, Google's own."""

import logging

import numpy as np
import pytest
from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent
from dp_accounting.gaussian_mechanism import get_epsilon_gaussian
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant
from scipy.stats import norm

from pfedmoap.errors import PrivacyError
from privacy.accounting.epsilon import (
    check_accountant,
    check_budget,
    gaussian_epsilon,
    gaussian_noise,
    sampled_gaussian_epsilon,
    sampled_gaussian_noise,
)
from privacy.accounting.pld import pld_deltas, pld_epsilon

GRID = [
    (noise, rate, steps, delta)
    for noise in (0.8, 1.5, 4.0)
    for rate, steps in ((0.05, 200), (0.25, 80), (1.0, 20))
    for delta in (1e-5, 1e-3)
]


def googles(accountant, noise, rate, steps, delta):
    event = PoissonSampledDpEvent(rate, GaussianDpEvent(noise))
    accountant.compose(SelfComposedDpEvent(event, steps))
    return accountant.get_epsilon(delta)


def integrated_delta(noise, rate, steps, epsilon):
    """Hockey-stick divergence of one or two steps, summed over a fine grid of their outputs."""
    points = np.linspace(-12 * noise, 1 + 12 * noise, 3001)
    cells = points[1] - points[0]
    without = norm.pdf(points, 0, noise)
    with_it = (1 - rate) * without + rate * norm.pdf(points, 1, noise)
    worst = 0.0
    for p, q in ((with_it, without), (without, with_it)):
        first, second = p * cells, q * cells
        if steps == 2:
            first, second = np.outer(first, first), np.outer(second, second)
        worst = max(worst, float(np.maximum(first - np.exp(epsilon) * second, 0).sum()))
    return worst


@pytest.mark.parametrize(("noise", "rate", "steps"), [(0.7, 0.1, 1), (1.0, 0.25, 2), (3.0, 0.9, 1)])
def test_pld_is_the_brute_force_integral_from_above(noise, rate, steps):
    for delta in (1e-5, 1e-2):
        epsilon = sampled_gaussian_epsilon("pld", noise, rate, steps, delta)
        assert integrated_delta(noise, rate, steps, epsilon) <= delta
        assert integrated_delta(noise, rate, steps, 0.995 * epsilon) > delta


@pytest.mark.parametrize(("noise", "rate", "steps", "delta"), GRID)
def test_pld_is_near_googles_fine_grid_and_below_googles_renyi_bound(noise, rate, steps, delta):
    pld = sampled_gaussian_epsilon("pld", noise, rate, steps, delta)
    assert pld == pytest.approx(googles(PLDAccountant(), noise, rate, steps, delta), rel=2e-3)
    assert pld <= googles(RdpAccountant(), noise, rate, steps, delta)


@pytest.mark.parametrize(("noise", "steps"), [(30.0, 4), (1.0, 1), (2.0, 100), (0.3, 10)])
def test_unsampled_steps_cost_what_the_analytic_gaussian_says(noise, steps):
    exact = get_epsilon_gaussian(noise / steps**0.5, 1e-5, tol=1e-10)
    for found in (
        gaussian_epsilon(noise, steps, 1e-5),
        sampled_gaussian_epsilon("pld", noise, 1.0, steps, 1e-5),
        sampled_gaussian_epsilon("pld", noise, 1 - 1e-9, steps, 1e-5),  # through distributions
    ):
        assert exact <= found * (1 + 1e-6)
        assert found <= 1.002 * exact


@pytest.mark.parametrize(("noise", "rate", "steps", "delta"), GRID[::2])
def test_the_cross_checks_bound_pld_and_are_near_it(noise, rate, steps, delta):
    truth = sampled_gaussian_epsilon("pld", noise, rate, steps, delta)
    for check in ("rdp", "prv"):
        found = sampled_gaussian_epsilon(check, noise, rate, steps, delta)
        assert truth * (1 - 1e-3) <= found <= 1.35 * truth + 0.1


@pytest.mark.parametrize("accountant", ["pld", "rdp"])
@pytest.mark.parametrize("epsilon", [0.5, 8.0])
@pytest.mark.parametrize(("rate", "steps"), [(0.25, 100), (1.0, 10)])
def test_calibrated_noise_meets_the_budget(accountant, epsilon, rate, steps):
    noise = sampled_gaussian_noise(accountant, epsilon, 1e-5, rate, steps)
    assert 0.99 * epsilon <= sampled_gaussian_epsilon(accountant, noise, rate, steps, 1e-5)
    assert sampled_gaussian_epsilon(accountant, noise, rate, steps, 1e-5) <= epsilon
    assert 0.5 * epsilon <= googles(PLDAccountant(), noise, rate, steps, 1e-5)
    assert googles(PLDAccountant(), noise, rate, steps, 1e-5) <= 1.001 * epsilon


@pytest.mark.parametrize("epsilon", [1e-4, 1e-3, 0.01])
@pytest.mark.parametrize(("rate", "steps"), [(0.25, 40), (0.01, 10_000)])
def test_small_budgets_take_the_noise_of_the_limit_theorem(epsilon, rate, steps):
    """Under much noise, sampled steps are Gaussian ones with ``rate`` times the sensitivity."""
    noise = sampled_gaussian_noise("pld", epsilon, 1e-5, rate, steps)
    assert noise == pytest.approx(rate * gaussian_noise(epsilon, 1e-5, steps), rel=5e-3)


@pytest.mark.parametrize("epsilon", [0.05, 700.0, 1e4, 1e6])
@pytest.mark.parametrize(("rate", "steps"), [(0.25, 40), (0.01, 500), (1.0, 1)])
def test_no_budget_is_too_large_to_calibrate_for(epsilon, rate, steps):
    noise = sampled_gaussian_noise("pld", epsilon, 1e-5, rate, steps)
    assert 0 < noise <= gaussian_noise(epsilon, 1e-5, steps) * 1.0001
    assert sampled_gaussian_epsilon("pld", noise, rate, steps, 1e-5) <= epsilon


@pytest.mark.parametrize("epsilon", [1e-4, 0.01, 0.5, 50.0, 700.0, 1e6, 1e12])
def test_noise_of_releases_is_the_least_that_suffices(epsilon):
    noise = gaussian_noise(epsilon, 1e-5, 17)
    assert gaussian_epsilon(noise, 17, 1e-5) <= epsilon < gaussian_epsilon(0.999 * noise, 17, 1e-5)


def test_less_noise_more_sampling_and_more_steps_all_cost_more():
    costs = [
        sampled_gaussian_epsilon("pld", noise, rate, steps, 1e-5)
        for noise, rate, steps in (
            (4.0, 0.1, 50),
            (2.0, 0.1, 50),
            (2.0, 0.2, 50),
            (2.0, 0.2, 100),
            (0.5, 0.2, 100),
            (0.5, 1.0, 100),
            (0.01, 1.0, 100),
            (0.01, 1.0, 101),
        )
    ]
    assert sorted(set(costs)) == costs


def test_two_runs_cost_less_than_twice_one_and_more_than_one():
    one, two = (sampled_gaussian_epsilon("pld", 1.5, 0.25, n, 1e-5) for n in (40, 80))
    assert one < two < 2 * one


def test_calibrated_noise_has_few_digits_so_that_machines_agree_on_it():
    for noise in (sampled_gaussian_noise("pld", 3.0, 1e-5, 0.5, 2), gaussian_noise(3.0, 1e-5, 9)):
        assert float(f"{noise:.4e}") == noise


def test_prv_calibrates_to_less_noise_than_rdp():
    prv = sampled_gaussian_noise("prv", 3.0, 1e-5, 0.5, 2)
    assert prv < sampled_gaussian_noise("rdp", 3.0, 1e-5, 0.5, 2)
    assert sampled_gaussian_epsilon("pld", prv, 0.5, 2, 1e-5) <= 3.0


def test_a_cross_check_that_cannot_show_a_small_epsilon_says_why():
    with pytest.raises(PrivacyError, match=r"cannot show an epsilon below 0\.008.*pld"):
        sampled_gaussian_noise("rdp", 0.005, 1e-5, 0.25, 40)
    with pytest.raises(PrivacyError, match=r"\.01 off.*pld"):
        sampled_gaussian_noise("prv", 0.01, 1e-5, 0.25, 40)


def test_renyi_orders_reach_an_epsilon_of_a_hundredth():
    noise = sampled_gaussian_noise("rdp", 0.01, 1e-5, 0.25, 40)
    least = sampled_gaussian_noise("pld", 0.01, 1e-5, 0.25, 40)
    assert least <= noise <= 3 * least


def test_a_delta_that_doubles_cannot_resolve_is_refused():
    with pytest.raises(PrivacyError, match="resolves a delta of"):
        sampled_gaussian_epsilon("pld", 1.0, 0.25, 10_000, 1e-12)
    assert gaussian_epsilon(1.0, 100, 1e-12) > gaussian_epsilon(1.0, 100, 1e-11)


def test_beyond_a_million_steps_sampling_costs_no_more_than_none():
    """Renyi's bound is looser than the exact account without sampling where nearly all are in."""
    sampled = sampled_gaussian_epsilon("pld", 4000.0, 0.999, 2_000_000, 1e-5)
    assert sampled == gaussian_epsilon(4000.0, 2_000_000, 1e-5)
    assert sampled_gaussian_epsilon("rdp", 4000.0, 0.999, 2_000_000, 1e-5) > 1.01 * sampled
    seldom = sampled_gaussian_epsilon("pld", 40.0, 0.01, 2_000_000, 1e-5)
    assert seldom < gaussian_epsilon(40.0, 2_000_000, 1e-5)


def test_what_the_fourier_transform_may_lose_is_paid_for():
    """At the least delta that doubles resolve in a thousand steps it is a hundredth of delta."""
    delta, steps = 1.0001e-11, 1000
    epsilon = pld_epsilon(4.0, 0.1, steps, delta, at_most=50.0)
    (found,) = pld_deltas(4.0, 0.1, steps, [epsilon])
    assert 0.999 * delta < found <= delta * (1 + 1e-6)


def test_nothing_spent_costs_nothing():
    for accountant in ("pld", "rdp", "prv"):
        assert sampled_gaussian_epsilon(accountant, 1.0, 0.1, 0, 1e-5) == 0.0
    assert gaussian_epsilon(1.0, 0, 1e-5) == 0.0


def test_prv_falls_back_to_rdp_and_says_so(monkeypatch, caplog):
    def fails(self, delta, **options):
        raise ValueError("Discrete mean differs significantly from continuous mean.")

    monkeypatch.setattr("opacus.accountants.prv.PRVAccountant.get_epsilon", fails)
    with caplog.at_level(logging.WARNING):
        spent = sampled_gaussian_epsilon.__wrapped__("prv", 1.1, 0.2, 30, 1e-5)
    assert spent == sampled_gaussian_epsilon("rdp", 1.1, 0.2, 30, 1e-5)
    assert "RDP instead" in caplog.text


def test_the_accountant_that_understates_is_gone_and_says_what_to_take():
    with pytest.raises(PrivacyError, match=r"removed.*understates.*`pld`"):
        check_accountant("gdp")
    with pytest.raises(PrivacyError, match=r"'rpd', expected one of: pld, rdp, prv"):
        check_accountant("rpd")
    assert [check_accountant(name) for name in ("pld", "rdp", "prv")] == ["pld", "rdp", "prv"]


@pytest.mark.parametrize(
    ("epsilon", "delta"),
    [
        *((epsilon, 1e-5) for epsilon in (0, -1, float("inf"), float("nan"), 1e13)),
        *((1, delta) for delta in (0, 1, 0.5, float("nan"))),
    ],
)
def test_a_budget_that_means_nothing_is_refused(epsilon, delta):
    with pytest.raises(PrivacyError, match="must be"):
        check_budget(epsilon, delta)


def test_losses_whose_exponentials_underflow_are_accounted_as_tightly_as_others():
    """dp-accounting's own search for epsilon gives infinity here, and 1,295 on another grid."""
    assert 1295 < sampled_gaussian_epsilon("pld", 0.6012, 0.4224, 3043, 3.7e-7) < 1300
