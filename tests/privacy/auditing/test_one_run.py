"""The one-run audit's arithmetic, and its verdict on mechanisms whose epsilon is known."""

import math

import numpy as np
import pytest
from scipy.stats import binom

from privacy.accounting.epsilon import gaussian_epsilon
from privacy.auditing.bounds import lower_bound
from privacy.auditing.membership import separation
from privacy.auditing.one_run import Guesses, p_value, refuted_epsilon


def published(m, r, v, eps, delta):
    """The paper's own loop (appendix D), written out slowly."""
    q = 1 / (1 + math.exp(-eps))
    beta = binom.sf(v - 1, r, q)
    alpha, total = 0.0, 0.0
    for i in range(1, v + 1):
        total += binom.pmf(v - i, r, q)
        alpha = max(alpha, total / i)
    return min(1.0, beta + alpha * delta * 2 * m)


@pytest.mark.parametrize("eps", [0.0, 0.7, 3.0])
@pytest.mark.parametrize("delta", [0.0, 1e-5, 1e-2])
@pytest.mark.parametrize(("r", "v"), [(10, 9), (100, 71), (100, 100), (7, 0)])
def test_p_value_is_the_papers(eps, delta, r, v):
    assert p_value(Guesses(200, r, v), eps, delta) == pytest.approx(
        published(200, r, v, eps, delta)
    )


def test_all_guesses_right_refutes_up_to_the_known_limit():
    # q^r = 0.05 has the solution q = 0.05^(1/r)
    limit = 0.05 ** (1 / 500)
    expected = math.log(limit / (1 - limit))
    assert refuted_epsilon(Guesses(500, 500, 500), 0.0, 0.05) == pytest.approx(expected, rel=1e-3)


def gaussian_run(mu, canaries, seed):
    rng = np.random.default_rng(seed)
    included = rng.random(canaries) < 0.5
    return rng.normal(size=canaries) + mu * included, included


def test_randomised_response_is_never_refuted_and_nearly_reached():
    rng = np.random.default_rng(0)
    epsilon = 2.0
    found = []
    for _ in range(40):
        included = rng.random(2000) < 0.5
        lie = rng.random(2000) < 1 / (1 + math.exp(epsilon))
        said = included ^ lie
        found.append(lower_bound(said + 1e-3 * rng.random(2000), included, 0.0).epsilon)
    assert np.mean(np.array(found) <= epsilon) >= 0.9
    assert np.median(found) > 1.6


@pytest.mark.parametrize("mu", [0.1, 0.5, 1.0])
def test_a_gaussian_mechanism_is_not_accused(mu):
    claim = gaussian_epsilon(1 / mu, 1, 1e-5)
    bounds = [lower_bound(*gaussian_run(mu, 1000, seed), delta=1e-5).epsilon for seed in range(20)]
    assert np.mean(np.array(bounds) <= claim) == 1.0


def test_a_tenth_of_the_noise_is_caught():
    claim = gaussian_epsilon(1 / 0.5, 1, 1e-5)
    assert lower_bound(*gaussian_run(5.0, 1000, 0), delta=1e-5).epsilon > claim


def test_chance_is_no_evidence():
    rng = np.random.default_rng(3)
    bounds = [
        lower_bound(rng.random(400), rng.random(400) < 0.5, delta=1e-5).epsilon for _ in range(40)
    ]
    assert np.mean(np.array(bounds) == 0) >= 0.9


def test_separation():
    member = np.array([False] * 200 + [True] * 100)
    perfect = separation(member.astype(float), member)
    assert (perfect.auc, perfect.tpr_at_1_fpr) == (1.0, 1.0)
    rng = np.random.default_rng(0)
    guess = separation(rng.random(300), member)
    assert abs(guess.auc - 0.5) < 0.1
    assert guess.tpr_at_1_fpr < 0.08
    assert separation(np.zeros(3), np.ones(3, dtype=bool)).auc == 0.5
