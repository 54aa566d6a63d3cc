"""Lower bounds on epsilon, and tests of a claim, from an auditor's scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from privacy.auditing import f_dp, one_run
from privacy.auditing.membership import Separation, separation
from privacy.auditing.one_run import SHARES, Guesses, guess
from privacy.auditing.trade_off import Claim, SampledSteps

Method = Literal["steinke-2023", "f-dp-2024"]
CONFIDENCE = 0.95


@dataclass(frozen=True)
class LowerBound:
    """A lower bound on epsilon, by one method.

    Attributes:
        method: ``steinke-2023`` holds for every mechanism: it is not (e, delta)-private for any e
            below. ``f-dp-2024`` refutes the claimed kind of noise at the amount that would give
            this epsilon.
        epsilon: The bound.
        confidence: Probability that this one statement is true, over the run's randomness.
        guesses: The guesses behind it; ``None`` where none refutes anything.
    """

    method: Method
    epsilon: float
    confidence: float
    guesses: Guesses | None


@dataclass(frozen=True)
class View:
    """Bounds and tests for one kind of canary and one kind of auditor.

    Attributes:
        name: Which.
        sees: ``uploads``, or every noisy gradient of the ``steps``.
        canaries: Number of canaries.
        steinke: Bound that holds for every mechanism.
        f_dp: Bound for the claimed kind of noise.
        separation: The same scores as membership inference.
        p_value: Of the claim itself, corrected for both methods and all shares.
    """

    name: str
    sees: Literal["uploads", "steps"]
    canaries: int
    steinke: LowerBound
    f_dp: LowerBound
    separation: Separation
    p_value: float


def lower_bound(
    scores: Sequence[float] | NDArray[np.float64],
    included: Sequence[bool] | NDArray[np.bool_],
    delta: float,
    claim: Claim | None = None,
    confidence: float = CONFIDENCE,
    shares: Sequence[float] = SHARES,
) -> LowerBound:
    """Guess from scores and bound epsilon.

    Several fixed shares of guesses are tried, with Bonferroni correction.

    Args:
        scores: One for each canary; see `privacy.auditing.one_run.guess`.
        included: Whether it was in.
        delta: Delta of the claim.
        claim: The kind of noise, for the f-DP bound; ``None`` for the one of Steinke et al.
        confidence: Of the result.
        shares: Shares of guesses to try.

    Returns:
        The best bound.
    """
    significance = (1 - confidence) / len(shares)
    method: Method = "steinke-2023" if claim is None else "f-dp-2024"
    best = LowerBound(method, 0.0, confidence, None)
    for made in guess(scores, included, shares):
        if claim is None:
            epsilon = one_run.refuted_epsilon(made, delta, significance)
        else:
            epsilon = f_dp.refuted_epsilon(made, claim, delta, significance)
        if epsilon > best.epsilon:
            best = LowerBound(method, epsilon, confidence, made)
    return best


def claim_p_value(
    scores: NDArray[np.float64],
    included: NDArray[np.bool_],
    claimed: float,
    delta: float,
    claim: Claim,
) -> float:
    """Test a claim by both methods and with all shares; small values refute it.

    Args:
        scores: One for each canary.
        included: Whether it was in.
        claimed: The claimed epsilon.
        delta: The claimed delta.
        claim: The claimed kind of noise.

    Returns:
        The least p-value times the number of tests, at most 1.
    """
    curve = claim.with_noise(1.0)
    found = [
        p
        for made in guess(scores, included)
        for p in (one_run.p_value(made, claimed, delta), f_dp.p_value(made, curve))
    ]
    return min([1.0, *(len(found) * p for p in found)])


def view(
    name: str,
    sees: Literal["uploads", "steps"],
    scores: NDArray[np.float64],
    included: NDArray[np.bool_],
    claimed: float,
    delta: float,
    claim: Claim,
) -> View:
    """Compute bounds and p-value from scores; see `lower_bound` and `claim_p_value`."""
    return View(
        name=name,
        sees=sees,
        canaries=len(scores),
        steinke=lower_bound(scores, included, delta),
        f_dp=lower_bound(scores, included, delta, claim),
        separation=separation(scores, included),
        p_value=claim_p_value(scores, included, claimed, delta, claim),
    )


def ideal_bounds(
    claim: SampledSteps, canaries: int, delta: float, repeats: int = 9, seed: int = 0
) -> tuple[float, float]:
    """Simulate the two bounds for ideal canaries, hidden only by the claimed noise.

    Args:
        claim: Private steps; a canary adds 1 to its own coordinate in every step that draws it.
        canaries: Their number.
        delta: Delta of the claim.
        repeats: Simulated audits, of which the median is taken.
        seed: Of the simulation.

    Returns:
        Medians of the bound of Steinke et al. and of the f-DP bound.
    """
    draws = np.random.default_rng(seed)
    found = []
    for _ in range(repeats):
        included = draws.random(canaries) < 0.5
        drawn = draws.binomial(claim.steps, claim.sample_rate, canaries)
        noise = draws.normal(size=canaries) * claim.noise_multiplier * claim.steps**0.5
        scores = noise + drawn * included
        found.append([lower_bound(scores, included, delta, kind).epsilon for kind in (None, claim)])
    steinke, f = np.median(found, axis=0)
    return float(steinke), float(f)
