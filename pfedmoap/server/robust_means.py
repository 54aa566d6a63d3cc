"""Means of vectors that some hostile ones among them cannot move far.

Each is a function of n vectors x_1 .. x_n, (n, d) in float64, one a client in the order of their
ids. With one vector each returns that vector, and none depends on the vectors' order but for the
last bits.
"""

from math import ceil

import torch
from torch import Tensor

from pfedmoap.config.server import ServerOptions

_STEPS = 1000  # most steps of Weiszfeld's algorithm; it converges linearly, in some tens as a rule
_SMOOTHING = 1e-9  # of the geometric median, in units of the vectors' median distance from it
_FALL = 0.7  # of the smoothing in a step, down from 1
_STANDSTILL = 1e-12


def robust_mean(
    rows: Tensor, weights: Tensor, options: ServerOptions, centre: Tensor | None = None
) -> Tensor:
    """Average vectors by the rule that options choose.

    Args:
        rows: (n, d) float64, n at least 1.
        weights: (n,) float64 of sum 1; only some rules use them, see `combine`.
        options: The rule and the declared share of hostile clients.
        centre: What changes are measured from, (d,); ``None`` for the coordinate median.

    Returns:
        (d,) float64.
    """
    count = len(rows)
    share = options.hostile_share
    if options.aggregation == "clipped_mean":
        return clipped_mean(rows, weights, coordinate_median(rows) if centre is None else centre)
    if options.aggregation == "median":
        return coordinate_median(rows)
    if options.aggregation == "trimmed_mean":
        return trimmed_mean(rows, declared(share, count, (count - 1) // 2))
    if options.aggregation == "geometric_median":
        return geometric_median(rows, weights)
    if options.aggregation == "multi_krum":
        return multi_krum(rows, declared(share, count, (count - 3) // 2))
    return weights @ rows


def declared(share: float, count: int, most: int) -> int:
    """How many of ``count`` clients a declared share is, rounded up, and at most ``most``."""
    return max(0, min(ceil(share * count - 1e-9), most))


def clipped_mean(rows: Tensor, weights: Tensor, centre: Tensor) -> Tensor:
    """Cut changes to a common length, then average (Sun et al. 2019, arXiv 1911.07963).

    ``c + sum_k p_k (x_k - c) min(1, M / ||x_k - c||)``, their norm bounding (section 4, "Norm
    thresholding of updates"). Where we depart: their M is a constant; ours is the median length
    of the round's changes that are not zero, so that it has no unit to choose, and hostile clients
    below one half of those that moved cannot raise it above the longest honest one.

    Args:
        rows: (n, d).
        weights: (n,) of sum 1.
        centre: What changes are measured from, (d,).
    """
    moves = rows - centre
    lengths = moves.norm(dim=1)
    moved = lengths[lengths > 0]
    if not len(moved):
        return centre + weights @ moves
    bound = moved.quantile(0.5)
    scale = torch.where(lengths > bound, bound / lengths, torch.ones_like(lengths))
    return centre + (weights * scale) @ moves


def coordinate_median(rows: Tensor) -> Tensor:
    """Median of each coordinate (Yin et al., ICML 2018, arXiv 1803.01498, Definition 1).

    The mean of both middle values where n is even. It counts clients; hostile ones below one half
    cannot move a coordinate beyond the honest values.
    """
    ordered = rows.sort(dim=0).values
    return (ordered[(len(rows) - 1) // 2] + ordered[len(rows) // 2]) / 2


def trimmed_mean(rows: Tensor, cut: int) -> Tensor:
    """Mean of each coordinate without its extremes (Yin et al. 2018, Definition 2).

    Args:
        rows: (n, d).
        cut: How many of the largest and as many of the smallest values to leave out, below n / 2;
            their beta n.
    """
    ordered = rows.sort(dim=0).values
    return ordered[cut : len(rows) - cut].mean(0)


def geometric_median(rows: Tensor, weights: Tensor) -> Tensor:
    """Point with the least weighted sum of distances (RFA, Pillutla et al. 2022, arXiv 1912.13445).

    ``argmin_v sum_k p_k ||v - x_k||`` by their smoothed Weiszfeld algorithm (Algorithm 2):
    ``v <- sum_k b_k x_k / sum_k b_k`` with ``b_k = p_k / max(nu, ||v - x_k||)``. It breaks only
    if hostile clients hold half of the *weight*. Where we depart: nu falls to 1e-9 of the vectors'
    median distance, where theirs is a constant (without the fall, a start at one of the vectors
    would stay there), and steps go on until nothing moves, where theirs are few.

    Args:
        rows: (n, d).
        weights: (n,) of sum 1.
    """
    point = coordinate_median(rows)  # a start that hostile vectors cannot pull far away
    unit = float((rows - point).norm(dim=1).quantile(0.5))
    unit = unit or float((rows - point).norm(dim=1).max())
    if unit == 0:
        return point
    smoothing = 1.0
    for _ in range(_STEPS):
        pull = weights / (rows - point).norm(dim=1).clamp(min=smoothing * unit)
        new = (pull / pull.sum()) @ rows
        moved, point = float((new - point).norm()), new
        if smoothing == _SMOOTHING and moved <= _STANDSTILL * unit:
            break
        smoothing = max(_SMOOTHING, _FALL * smoothing)
    return point


def multi_krum(rows: Tensor, hostile: int) -> Tensor:
    """Mean of the vectors with the closest company (Blanchard et al., NeurIPS 2017).

    "Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent", section 4: vector i
    scores ``s(i) = sum_{i -> j} ||x_i - x_j||^2`` over its n - f - 2 closest others, and the m
    vectors with the least scores are averaged, without weights. Ours is m = n - f. Of equal scores
    the lower row is taken. The proof needs n >= 2 f + 3.

    Args:
        rows: (n, d).
        hostile: Declared number f of hostile vectors.
    """
    count = len(rows)
    if hostile == 0:
        return rows.mean(0)
    squared = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist").square()
    squared.fill_diagonal_(float("inf"))
    scores = squared.sort(dim=1).values[:, : count - hostile - 2].sum(1)
    kept = scores.argsort(stable=True)[: count - hostile].sort().values
    return rows[kept].mean(0)
