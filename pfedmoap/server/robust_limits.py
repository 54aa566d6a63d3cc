"""What is too long beside the others: a limit that hostile values below one half cannot set."""

import math

import torch
from torch import Tensor

LEAST = 3  # of two values, nobody can say which is the wrong one
_NORMAL = 1.4826  # median absolute deviation to standard deviation, where values are normal


def robust_limit(values: Tensor, multiple: float) -> float:
    """The largest value that is admitted beside the others.

    ``max(a m, m + 2 a s)`` for a = ``multiple``, the median m of the values, and s = 1.4826 times
    their median absolute deviation from m. The first part leaves alone what is of the same order
    where all values are nearly equal, the second one what is usual where they are spread. Values of
    zero count as absent: clients that did not move cannot forbid all others to.

    Args:
        values: Lengths or counts, (n,), none negative.
        multiple: How many times the median is usual.

    Returns:
        The limit; infinity for fewer than `LEAST` values above zero.
    """
    values = values.double()
    values = values[values > 0]
    if len(values) < LEAST:
        return math.inf
    median = values.quantile(0.5)
    spread = _NORMAL * (values - median).abs().quantile(0.5)
    return float(torch.maximum(multiple * median, median + 2 * multiple * spread))
