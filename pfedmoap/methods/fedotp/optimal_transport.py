"""Unbalanced entropic optimal transport of a batch of small problems."""

import torch
from torch import Tensor

from pfedmoap.errors import ConfigError


@torch.no_grad()
def transport_plan(cost: Tensor, mass: float, entropy: float, iterations: int) -> Tensor:
    """Move part of a uniform mass at the least cost (FedOTP, arXiv 2403.00041, eq. 7-9).

    Minimises ``<T, cost> - entropy H(T)`` over plans T whose rows carry at most 1 / M each and
    whose columns carry exactly mass / N each, by alternating scaling (Chizat et al.,
    arXiv 1607.05816). With ``mass`` 1 this is Sinkhorn's balanced problem. The number of
    iterations is fixed: no problem's result depends on its neighbours in the batch, and nothing
    waits for the device. In float32, a place whose cost exceeds its column's least by more than 85
    times the entropy gets nothing.

    Args:
        cost: Cost of moving from M places to N others, (..., M, N).
        mass: How much is moved, in (0, 1].
        entropy: Weight of the entropy, in the unit of the cost.
        iterations: Rounds of scaling.

    Returns:
        The plan, (..., M, N), without a gradient.

    Raises:
        ConfigError: An option is out of range.

    Examples:
        >>> plan = transport_plan(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), 1.0, 0.1, 100)
        >>> plan.round(decimals=2)
        tensor([[0.5000, 0.0000],
                [0.0000, 0.5000]])
    """
    if not 0 < mass <= 1 or entropy <= 0 or iterations < 1:
        raise ConfigError(
            f"transport needs 0 < mass <= 1, entropy > 0 and iterations >= 1, "
            f"got mass {mass}, entropy {entropy} and {iterations} iterations"
        )
    shape, (rows, columns) = cost.shape, cost.shape[-2:]
    # A constant added to a column's cost leaves the plan alone; this one prevents underflow.
    kernel = torch.exp((cost.amin(-2, keepdim=True) - cost) / entropy).reshape(-1, rows, columns)
    kernel = kernel.permute(2, 1, 0).contiguous()  # (N, M, P): long axis last, many times faster
    column_scale = kernel.new_ones(columns, 1, kernel.shape[-1])
    row_scale = kernel.new_ones(1, rows, kernel.shape[-1])
    tiny = torch.finfo(cost.dtype).tiny
    for _ in range(iterations):
        reached = (kernel * column_scale).sum(0, keepdim=True)
        row_scale = (1 / rows / reached.clamp(min=tiny)).clamp(max=1)
        column_scale = mass / columns / (kernel * row_scale).sum(1, keepdim=True).clamp(min=tiny)
    return (row_scale * kernel * column_scale).permute(2, 1, 0).reshape(shape)
