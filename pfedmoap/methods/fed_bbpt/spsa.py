"""SPSA-GC: descent along gradients that are estimated from pairs of losses, without any autograd.

Spall, "Multivariate stochastic approximation using a simultaneous perturbation gradient
approximation" (IEEE TAC 1992), with the look-ahead momentum ("gradient correction") of Oh et al.,
"BlackVIP: Black-Box Visual Prompting for Robust Transfer Learning" (CVPR 2023, arXiv 2303.14773).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pfedmoap.errors import ConfigError, ShapeError


@dataclass(frozen=True)
class Gains:
    """Sizes of steps and of probing perturbations; ``k`` counts steps from 1.

    ``a_k = a / (k + o)^alpha`` and ``c_k = c / k^gamma``.

    Attributes:
        step: a.
        step_offset: o.
        step_decay: alpha.
        probe: c.
        probe_decay: gamma.
    """

    step: float = 0.01
    step_offset: float = 1.0
    step_decay: float = 0.4
    probe: float = 0.01
    probe_decay: float = 0.1

    def __post_init__(self) -> None:
        if not (self.step > 0 and self.probe > 0):
            raise ConfigError(f"gains must be positive, got step {self.step}, probe {self.probe}")
        if min(self.step_offset, self.step_decay, self.probe_decay) < 0:
            raise ConfigError("the gains' offset and decays must not be negative")

    def step_size(self, k: int) -> float:
        """a_k."""
        return float(self.step / (k + self.step_offset) ** self.step_decay)

    def probe_size(self, k: int) -> float:
        """c_k."""
        return float(self.probe / k**self.probe_decay)


@dataclass(frozen=True)
class Estimate:
    """A gradient estimate.

    Attributes:
        gradient: (G,).
        loss: Mean of the losses that were measured.
    """

    gradient: Tensor
    loss: float


def segmented_uniform(size: int, stream: torch.Generator) -> Tensor:
    """Draw a perturbation: each entry independently ``+-U(0.5, 1)``, (G,) float32.

    Bounded away from zero, since the estimate divides by it; a Gaussian would not do.
    """
    magnitude = 0.5 + 0.5 * torch.rand(size, generator=stream)
    sign = 2.0 * torch.randint(2, (size,), generator=stream) - 1.0
    return sign * magnitude


def spsa(
    loss: Callable[[Tensor], float],
    weights: Tensor,
    probe: float,
    draws: int,
    stream: torch.Generator,
) -> Estimate:
    """Estimate a gradient from ``2 draws`` losses.

    ``g = (L(w + c D) - L(w - c D)) / (2 c D)``, divided elementwise, averaged over the draws. Both
    sides of a draw use the same D.

    Args:
        loss: What to differentiate; called with weights (G,).
        weights: w, (G,) float32.
        probe: c.
        draws: Independent perturbations D.
        stream: Where they are drawn from.

    Returns:
        The estimate.

    Raises:
        ShapeError: The weights are not one float32 vector. In half precision, a probe of 0.01
            drowns in rounding.
        ConfigError: There is no draw.
    """
    if weights.dim() != 1 or weights.dtype != torch.float32:
        raise ShapeError(
            f"weights have shape {tuple(weights.shape)} and dtype {weights.dtype}, expected one "
            "float32 vector (G,)"
        )
    if draws < 1:
        raise ConfigError(f"draws is {draws}, expected at least 1")
    gradient, total = torch.zeros_like(weights), 0.0
    for _ in range(draws):
        perturbation = segmented_uniform(len(weights), stream).to(weights.device)
        ahead = loss(weights + probe * perturbation)
        behind = loss(weights - probe * perturbation)
        gradient += (ahead - behind) / (2 * probe) / perturbation
        total += ahead + behind
    return Estimate(gradient / draws, total / (2 * draws))


def look_ahead_step(
    weights: Tensor, velocity: Tensor, gradient: Tensor, step: float, momentum: float
) -> tuple[Tensor, Tensor]:
    """Step with corrected gradients: ``m <- beta m + g``, ``w <- w - a (g + beta m)``.

    Args:
        weights: w, (G,).
        velocity: m, (G,).
        gradient: g, (G,).
        step: a.
        momentum: beta.

    Returns:
        New weights and new velocity.
    """
    velocity = momentum * velocity + gradient
    return weights - step * (gradient + momentum * velocity), velocity
