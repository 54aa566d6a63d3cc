"""Methods that are compared: their figures, their looks, and axes that none of them stretches."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from eval.comparison.paired import Difference
from eval.report.colours import Dash, looks
from eval.report.families import OUTSIDE, families
from eval.report.structure import Data

FEW = 4  # values that are all shown, however far apart
REACH = 2.0  # interquartile ranges from the quartiles: farther methods are cut off
LEAST_REACH = 0.05

Limits = tuple[float, float]
LimitsOf = Callable[[Sequence[float], Sequence[float]], Limits]
"""Limits of an axis from each method's least and largest value."""


@dataclass(frozen=True)
class Contender:
    """One method on one task, over all its seeds.

    Attributes:
        name: Its label.
        curves: For each seed, the evaluated rounds and the mean accuracy after each.
        clients: Accuracy of every client of every seed after the last round.
        difference: Against the reference; ``None`` for the reference or without one.
        bytes_per_round: Payload down and up, over all clients of a round.
        epsilon: Largest privacy loss of a client; ``None`` without differential privacy.
        family: What kind of method it is; see `eval.report.families`.
        whose: Which client and seed each of ``clients`` is of; empty where it is not said.
    """

    name: str
    curves: Sequence[tuple[Sequence[int], Sequence[float]]]
    clients: Sequence[float]
    difference: Difference | None
    bytes_per_round: float
    epsilon: float | None
    family: str = OUTSIDE
    whose: Sequence[str] = ()

    @property
    def mean(self) -> float:
        """Mean accuracy after the last round."""
        return float(np.mean([values[-1] for _, values in self.curves]))

    @property
    def setting(self) -> str:
        """Its name without a budget of privacy: ``PromptFL, epsilon 8`` is ``PromptFL``."""
        if self.epsilon is None:
            return self.name
        return re.sub(r"[,;]?\s*(?:epsilon|eps|ε)\s*=?\s*[\d.]+$", "", self.name) or self.name


@dataclass(frozen=True)
class Look:
    """How a method is drawn in all pictures of a task, and what a click on it picks."""

    colour: str
    dashes: Dash
    marker: str
    key: str


def looks_of(contenders: Sequence[Contender]) -> dict[str, Look]:
    """Give every method a look by its name; those of a family differ in colour first."""
    order = sorted(contenders, key=lambda one: families().index(one.family))
    keys = method_keys(contenders)
    return {
        name: Look(*look, keys[name]) for name, look in looks([one.name for one in order]).items()
    }


def method_keys(contenders: Sequence[Contender]) -> dict[str, str]:
    """What a click on each method picks, by its name."""
    return {one.name: f"m{i}" for i, one in enumerate(contenders)}


def method_data(contenders: Sequence[Contender]) -> Data:
    """What the page's script reads of a comparison."""
    keys = method_keys(contenders)
    return {
        "methods": [
            {"key": keys[one.name], "name": one.name, "family": one.family} for one in contenders
        ]
    }


def robust_limits(lows: Sequence[float], highs: Sequence[float]) -> Limits:
    """Limits of an axis that one far-off method does not stretch.

    Args:
        lows: The least value of each method, at least one.
        highs: The largest of each.

    Returns:
        The least and the largest value that is less than `REACH` interquartile ranges (and at
        least `LEAST_REACH`) away from the quartiles; of up to `FEW` methods all are shown.

    Example:
        >>> robust_limits([0.01, 0.7, 0.7, 0.71, 0.72, 0.73], [0.1, 0.8, 0.8, 0.81, 0.82, 0.83])
        (0.7, 0.83)
    """
    return -_highest([-value for value in lows]), _highest(highs)


def whole_limits(lows: Sequence[float], highs: Sequence[float]) -> Limits:
    """Limits of an axis that shows everything, from what `robust_limits` takes."""
    return float(min(lows)), float(max(highs))


def cut_note(cut: Sequence[tuple[str, float]]) -> str:
    """Say which methods an axis leaves out below, as (name, lowest value); empty for none."""
    if not cut:
        return ""
    named = "; ".join(f"{name} ({100 * value:.1f}%)" for name, value in cut)
    return f" Cut off below the axis, which they would stretch (lowest value): {named}."


def below(name: str, value: float) -> str:
    """What a method is called at the lower edge of an axis that leaves it out.

    Example:
        >>> below("FedOTP", 0.123)
        'FedOTP ↓ 12.3%'
    """
    return f"{name} ↓ {100 * value:.1f}%"


def _highest(values: Sequence[float]) -> float:
    if len(values) <= FEW:
        return float(max(values))
    low, high = np.quantile(values, [0.25, 0.75])
    reach = max(LEAST_REACH, REACH * float(high - low))
    return float(max(value for value in values if value <= high + reach))
