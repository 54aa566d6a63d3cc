"""The f-DP one-run bound against linear programs, and on mechanisms whose epsilon is known."""

import math

import numpy as np
import pytest
from scipy.optimize import linprog

from privacy.accounting.epsilon import gaussian_epsilon, sampled_gaussian_epsilon
from privacy.accounting.pld import pld_deltas
from privacy.auditing.bounds import claim_p_value, ideal_bounds, lower_bound
from privacy.auditing.f_dp import p_value, refuted_epsilon, refutes
from privacy.auditing.one_run import Guesses
from privacy.auditing.trade_off import Gaussian, Profile, SampledSteps

DELTA = 1e-5
MU_8 = 1.6660305978  # what epsilon 8 at this delta is of a Gaussian mechanism


def largest_tail(canaries, guesses, correct, curve, slack=400):
    """The largest P[at least ``correct`` right] that the paper's constraints admit.

    A linear program over p_0 ... p_g: h_{i} >= f(1 - r_{i+1}) for every i, with the convex curve
    replaced by ``slack`` of its tangents.
    """
    i = np.arange(guesses + 1)
    points = np.linspace(1e-6, 1 - 1e-6, slack)
    value = np.array([curve.least(x) for x in points])
    step = 1e-7
    slope = np.array([(curve.least(x + step) - curve.least(x - step)) / (2 * step) for x in points])
    rows, limits = [], []
    for start in range(guesses):
        right = np.where(i >= start + 1, i, 0) / canaries
        wrong = np.where(i >= start, guesses - i, 0) / canaries
        for x, y, k in zip(points, value, slope, strict=True):
            rows.append(k * right - wrong)  # wrong >= y + k (right - x)
            limits.append(k * x - y)
    found = linprog(
        -(i >= correct).astype(float), rows, limits, np.ones((1, guesses + 1)), [1.0], (0, 1)
    )
    assert found.success
    return -found.fun


@pytest.mark.parametrize("mu", [0.3, 1.5])
@pytest.mark.parametrize(("canaries", "guesses", "correct"), [(8, 8, 8), (8, 8, 7), (12, 6, 5)])
def test_p_value_is_what_a_linear_program_finds(mu, canaries, guesses, correct):
    found = p_value(Guesses(canaries, guesses, correct), Gaussian(mu))
    assert found == pytest.approx(
        largest_tail(canaries, guesses, correct, Gaussian(mu)), rel=0.02, abs=1e-4
    )


def test_without_any_difference_guesses_are_coins():
    """With mu = 0 the tail is bounded by no less than the binomial one, and refutes late."""
    assert not refutes(Guesses(100, 100, 58), Gaussian(0.0), 0.05)
    assert refutes(Guesses(100, 100, 75), Gaussian(0.0), 0.05)


def gaussian_run(mu, canaries, seed):
    rng = np.random.default_rng(seed)
    included = rng.random(canaries) < 0.5
    return rng.normal(size=canaries) + mu * included, included


@pytest.mark.parametrize("share", [0.05, 0.25, 1.0])
@pytest.mark.parametrize("mu", [0.2, MU_8])
def test_the_ideal_mechanism_is_refuted_in_at_most_one_of_twenty_runs(mu, share):
    """Each share by itself, at a significance of 5 %; chance explains 18 of 200 runs."""
    curve, accused = Gaussian(mu), 0
    half = int(share * 300 / 2)
    for seed in range(200):
        scores, included = gaussian_run(mu, 300, seed)
        order = np.argsort(scores)
        right = included[order[-half:]].sum() + (~included[order[:half]]).sum()
        accused += refutes(Guesses(300, 2 * half, int(right)), curve, 0.05)
    assert accused <= 18


def test_ideal_canaries_at_epsilon_8_show_more_than_half_of_it():
    steinke, f_dp = ideal_bounds(SampledSteps(1 / MU_8, 1.0, 1), 1000, DELTA, repeats=5)
    assert 2.0 < steinke < 3.2  # "about 2.5"
    assert 3.5 < f_dp < 8.0
    assert gaussian_epsilon(1 / MU_8, 1, DELTA) == pytest.approx(8.0, rel=1e-3)


def test_bounds_of_the_ideal_mechanism_stay_below_its_epsilon():
    for mu in (0.5, MU_8):
        claim, epsilon = Gaussian(mu), gaussian_epsilon(1 / mu, 1, DELTA)
        for seed in range(10):
            scores, included = gaussian_run(mu, 500, seed)
            assert lower_bound(scores, included, DELTA, claim).epsilon <= epsilon
            assert claim_p_value(scores, included, epsilon, DELTA, claim) > 0.05


def test_half_of_the_noise_is_caught():
    claim = Gaussian(MU_8 / 2)
    epsilon = claim.epsilon(DELTA)
    scores, included = gaussian_run(MU_8, 1000, 0)
    assert lower_bound(scores, included, DELTA, claim).epsilon > epsilon
    assert claim_p_value(scores, included, epsilon, DELTA, claim) < 0.05
    # the bound that knows no noise does not see it
    assert lower_bound(scores, included, DELTA).epsilon < epsilon


def test_a_profile_of_a_gaussian_is_nearly_its_curve():
    epsilons = tuple(np.linspace(0, 12, 200))
    profile = Profile(epsilons, tuple(pld_deltas(0.5, 1.0, 1, epsilons)))
    for x in (0.001, 0.1, 0.5, 0.9, 0.999):
        assert profile.least(x) == pytest.approx(Gaussian(2.0).least(x), abs=2e-4)
        assert profile.least(x) <= Gaussian(2.0).least(x) + 1e-12  # an audit errs on the mild side
    assert profile.epsilon(DELTA) == pytest.approx(Gaussian(2.0).epsilon(DELTA), rel=2e-3)


def test_sampled_steps_are_priced_as_by_the_accountant():
    curve = SampledSteps(1.0, 0.25, 40).with_noise(1.0)
    priced = sampled_gaussian_epsilon("pld", 1.0, 0.25, 40, DELTA)
    assert curve.epsilon(DELTA) == pytest.approx(priced, rel=5e-3)
    assert SampledSteps(2.0, 1.0, 9).with_noise(2.0) == Gaussian(0.75)


def test_sampled_steps_are_not_accused_and_weak_ones_are():
    claim = SampledSteps(3.0, 0.25, 12)
    epsilon = claim.with_noise(1.0).epsilon(DELTA)

    def run(noise, seed):
        rng = np.random.default_rng(seed)
        included = rng.random(800) < 0.5
        drawn = rng.binomial(12, 0.25, 800)
        return rng.normal(size=800) * noise * math.sqrt(12) + drawn * included, included

    for seed in range(5):
        assert claim_p_value(*run(3.0, seed), epsilon, DELTA, claim) > 0.05
    assert claim_p_value(*run(0.3, 0), epsilon, DELTA, claim) < 0.01


def test_nothing_right_refutes_nothing():
    assert refuted_epsilon(Guesses(100, 50, 25), Gaussian(1.0), DELTA, 0.05) == 0.0
    assert refuted_epsilon(Guesses(100, 50, 0), Gaussian(1.0), DELTA, 0.05) == 0.0
    assert p_value(Guesses(100, 50, 20), Gaussian(1.0)) == 1.0
