"""Averages over clients, summed in an order that does not depend on arrival."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from pfedmoap.errors import MethodError
from pfedmoap.wire.messages import Update

Weighting = Literal["examples", "uniform"]


def average(updates: Sequence[Update], name: str, weighting: Weighting = "examples") -> Tensor:
    """Average one uploaded array (FedAvg, arXiv 1602.05629, Algorithm 1).

    Args:
        updates: At least one update.
        name: Which array.
        weighting: ``examples`` weights by the size of the training sets, or uniformly where the
            clients withhold it; ``uniform`` ignores it.

    Returns:
        A new tensor of the array's shape, summed in the order of client ids.

    Raises:
        MethodError: There are no updates, or only some clients withhold their size.
    """
    if not updates:
        raise MethodError("there is nothing to average: no update was admitted")
    ordered = sorted(updates, key=lambda update: update.client)
    counts = [update.num_examples for update in ordered]
    if weighting == "uniform" or all(count is None for count in counts):
        counts = [1] * len(ordered)
    if any(count is None for count in counts):
        raise MethodError("some clients withhold their number of examples; average uniformly")
    weights = torch.tensor(counts, dtype=torch.float64)
    weights = weights / weights.sum()
    total = torch.zeros_like(ordered[0].arrays[name], dtype=torch.float64)
    for weight, update in zip(weights.tolist(), ordered, strict=True):
        total += weight * update.arrays[name].double()
    return total.to(ordered[0].arrays[name].dtype)
