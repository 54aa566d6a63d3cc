"""A lower bound on epsilon from one run with many canaries (Steinke, Nasr, Jagielski, 2023).

"Privacy Auditing with One (1) Training Run", NeurIPS 2023, arXiv 2305.08846. Each of m canaries is
put into the training data independently with probability 1/2. An auditor of what the run released
guesses for some of them whether they were in. Privacy limits how many guesses can be right, so
that many right ones refute a claimed epsilon. Such a bound finds broken privacy; it proves no
guarantee, and m canaries cannot show more than about ``ln m``. It holds for every mechanism; one
that knows the shape of the noise is in `privacy.auditing.f_dp`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

SHARES = (0.05, 0.1, 0.25, 0.5, 1.0)  # of the canaries that are guessed, fixed beforehand


@dataclass(frozen=True)
class Guesses:
    """How an auditor guessed.

    Attributes:
        canaries: Number m of canaries, each in with probability 1/2.
        made: Number r of guesses; for the other canaries it abstains.
        correct: Number v of right ones.
    """

    canaries: int
    made: int
    correct: int


def guess(
    scores: Sequence[float] | NDArray[np.float64],
    included: Sequence[bool] | NDArray[np.bool_],
    shares: Sequence[float] = SHARES,
) -> list[Guesses]:
    """Guess that the r/2 highest scores were in and the r/2 lowest were out.

    Args:
        scores: One for each of m canaries, higher where it looks like having been in; from
            nothing but what was released.
        included: Whether it was in.
        shares: Shares r/m to try; which is best is not known beforehand.

    Returns:
        The guesses for each share that m canaries allow.
    """
    found, truth = np.asarray(scores, dtype=np.float64), np.asarray(included, dtype=bool)
    canaries = len(found)
    order = np.argsort(found, kind="stable")
    halves = sorted({max(1, int(share * canaries / 2)) for share in shares})
    return [
        Guesses(canaries, 2 * half, int(truth[order[-half:]].sum() + (~truth[order[:half]]).sum()))
        for half in halves
        if 2 * half <= canaries
    ]


def p_value(guesses: Guesses, epsilon: float, delta: float) -> float:
    """Bound the chance of so many right guesses under (epsilon, delta)-privacy (theorem 5.2).

    Args:
        guesses: The guesses.
        epsilon: Epsilon of the null hypothesis.
        delta: Its delta.

    Returns:
        ``P[at least v right]``, at most.
    """
    correct, made = guesses.correct, guesses.made
    rate = 1 / (1 + math.exp(-epsilon))
    beta = float(binom.sf(correct - 1, made, rate))
    if delta == 0 or correct == 0:
        return min(1.0, beta)
    below = binom.pmf(np.arange(correct - 1, -1, -1), made, rate).cumsum()
    alpha = float((below / np.arange(1, correct + 1)).max())  # sum of i terms over i, the largest
    return min(1.0, beta + 2 * guesses.canaries * delta * alpha)


def refuted_epsilon(guesses: Guesses, delta: float, significance: float) -> float:
    """Find the largest epsilon that the guesses refute; see `p_value`."""
    if p_value(guesses, 0.0, delta) > significance:
        return 0.0
    low, high = 0.0, 1.0
    while p_value(guesses, high, delta) < significance and high < 64:
        low, high = high, 2 * high
    for _ in range(40):
        middle = (low + high) / 2
        if p_value(guesses, middle, delta) < significance:
            low = middle
        else:
            high = middle
    return low
