"""A Gaussian mixture with priors, fitted by EM from given means."""

import torch
from torch import Tensor


def mixture_means(
    points: Tensor, start: Tensor, concentration: float = 1.0, iterations: int = 50
) -> Tensor:
    """Fit a mixture with diagonal covariances; return its means.

    Maximum a posteriori: weights have a Dirichlet prior worth ``concentration`` points for each
    component, variances a prior worth one point of the data's mean variance (so that none can
    vanish), means none. Everything is in units of the data's standard deviation, so that the
    result does not depend on theirs.

    Args:
        points: (N, d).
        start: Means to start from, (n, d).
        concentration: Strength of the prior on weights.
        iterations: EM steps.

    Returns:
        Means, (n, d), in the dtype of the start; one that attracts less than a thousandth of a
        point stays where it was.
    """
    data, means = points.double(), start.double()
    centre = data.mean(0)
    scale = float((data - centre).square().mean().sqrt()) or 1.0
    data, means = (data - centre) / scale, (means - centre) / scale
    variances = torch.ones_like(means)
    weights = torch.full((len(means),), 1 / len(means), dtype=torch.float64)
    for _ in range(iterations):
        squared = (data[:, None] - means).square() / variances  # (N, n, d)
        log_density = -0.5 * (squared + variances.log()).sum(-1) + weights.log()
        share = log_density.softmax(-1)  # (N, n)
        mass = share.sum(0)
        alive = mass > 1e-3
        new = (share.mT @ data) / mass.clamp(min=1e-3)[:, None]
        means = torch.where(alive[:, None], new, means)
        off = torch.einsum("kn,knd->nd", share, (data[:, None] - means).square())
        variances = (off + 1) / (mass[:, None] + 1)
        weights = (mass + concentration) / (mass + concentration).sum()
    return (means * scale + centre).to(start.dtype)
