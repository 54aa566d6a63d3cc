"""The one-run audit against a trade-off curve (Mahloujifar, Melis and Chaudhuri, 2024).

"Auditing f-Differential Privacy in One Run", ICML 2025, arXiv 2410.22235. The game is that of
`one_run`; the bound on the right guesses is another, and much closer where noise is
Gaussian. Let ``p_j`` be the probability of exactly j right among g guesses on m canaries, and

    ``r_i = sum over j >= i of j p_j / m``,    ``h_i = sum over j >= i of (g - j) p_j / m``.

Flipping one canary's coin turns "guessed right, i others right" into "guessed wrong, i others
right", and f-DP says how much less probable the second may be. Averaged over canaries (the curve is
convex) this is ``h_i >= f(1 - r_{i+1})``; with ``r_i - r_{i+1} = i / (g - i) (h_i - h_{i+1})`` the
two sums are followed from c right guesses down to none (the paper's Algorithm 3). If c right ones
had probability p, both would end above ``r_0 + h_0 = g / m``, all that there is: then the
probability is below p.
"""

import math

from privacy.auditing.one_run import Guesses
from privacy.auditing.trade_off import Claim, TradeOff

_GRID = 250  # steps to the least and to the largest amount of noise


def refutes(guesses: Guesses, curve: TradeOff, significance: float) -> bool:
    """Say whether so many right guesses have less probability than ``significance`` under a curve.

    Args:
        guesses: g guesses on m canaries, c of them right.
        curve: The hypothesis.
        significance: Probability p.

    Returns:
        Whether ``P[at least c right] < p`` for every mechanism that keeps to the curve.
    """
    made, correct = guesses.made, guesses.correct
    right = significance * correct / guesses.canaries
    wrong = significance * (made - correct) / guesses.canaries
    room = made / guesses.canaries
    for i in range(correct - 1, -1, -1):
        more = max(wrong, curve.least(right))
        right, wrong = right + i / (made - i) * (more - wrong), more
        if right + wrong > room:
            return True
    return False


def p_value(guesses: Guesses, curve: TradeOff) -> float:
    """The least significance at which the guesses refute a curve; see `refutes`."""
    low, high = -700.0, 0.0  # of its logarithm
    if not refutes(guesses, curve, 1.0):
        return 1.0
    for _ in range(40):
        middle = (low + high) / 2
        if refutes(guesses, curve, math.exp(middle)):
            high = middle
        else:
            low = middle
    return math.exp(high)


def refuted_epsilon(guesses: Guesses, claim: Claim, delta: float, significance: float) -> float:
    """Find the largest epsilon of a claim's family that the guesses refute.

    Args:
        guesses: The guesses.
        claim: Curves by amount of noise.
        delta: Delta that epsilon is given for.
        significance: Probability of an untrue result.

    Returns:
        Epsilon of the curve with the least noise that is refuted; 0 where none is.
    """
    if 2 * guesses.correct <= guesses.made:
        return 0.0
    if not refutes(guesses, claim.with_noise(_factor(_GRID)), significance):
        return 0.0
    quiet, loud = -_GRID - 1, _GRID  # more noise is easier to refute
    while loud - quiet > 1:
        middle = (quiet + loud) // 2
        if refutes(guesses, claim.with_noise(_factor(middle)), significance):
            loud = middle
        else:
            quiet = middle
    return claim.with_noise(_factor(loud)).epsilon(delta)


def _factor(step: int) -> float:
    """A grid of amounts of noise, 2 % apart, so that curves can be kept for the next audit."""
    return math.exp(0.02 * step)
