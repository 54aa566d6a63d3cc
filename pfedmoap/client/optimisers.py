"""Optimisers of local training, over a leading client axis."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from pfedmoap.wire.messages import Arrays


class Optimiser(Protocol):
    """Turns gradients into update directions; the training loop applies them."""

    def init(self, params: Arrays) -> Arrays:
        """Make the state before the first step, each tensor (K, ...)."""
        ...

    def direction(
        self, params: Arrays, gradients: Arrays, state: Arrays
    ) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
        """Compute the update direction; parameters change by minus the step size times this.

        Args:
            params: Parameters, each (K, ...).
            gradients: Their gradients.
            state: The optimiser's state.

        Returns:
            Directions like ``params``, and the new state.
        """
        ...


@dataclass(frozen=True)
class SGD:
    """Steps like `torch.optim.SGD`.

    Attributes:
        momentum: Momentum.
        weight_decay: L2 weight decay.
    """

    momentum: float = 0.9
    weight_decay: float = 0.0

    def init(self, params: Arrays) -> Arrays:
        """Start with zero velocity."""
        return {name: torch.zeros_like(value) for name, value in params.items()}

    def direction(
        self, params: Arrays, gradients: Arrays, state: Arrays
    ) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
        """See `Optimiser.direction`."""
        velocity = {}
        for name, value in params.items():
            direction = gradients[name] + self.weight_decay * value
            velocity[name] = self.momentum * state[name] + direction
        return velocity, velocity


@dataclass(frozen=True)
class Adam:
    """Steps like `torch.optim.Adam` (arXiv 1412.6980); defaults are PFPT's.

    Without weight decay, an entry whose gradient has always been zero does not move at all.

    Attributes:
        first_decay: Decay of the mean gradient (their beta_1).
        second_decay: Decay of the mean squared gradient (their beta_2).
        floor: What keeps the denominator away from zero (their epsilon).
        weight_decay: Decoupled weight decay, as in `torch.optim.AdamW` (arXiv 1711.05101).
    """

    first_decay: float = 0.9
    second_decay: float = 0.98
    floor: float = 1e-6
    weight_decay: float = 0.0

    def init(self, params: Arrays) -> Arrays:
        """Start with zero moments; steps are counted for each client."""
        state = {"steps": next(iter(params.values())).new_zeros(_clients(params))}
        for name, value in params.items():
            state |= {f"first.{name}": torch.zeros_like(value)}
            state |= {f"second.{name}": torch.zeros_like(value)}
        return state

    def direction(
        self, params: Arrays, gradients: Arrays, state: Arrays
    ) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
        """See `Optimiser.direction`."""
        steps = state["steps"] + 1
        new, directions = {"steps": steps}, {}
        for name, gradient in gradients.items():
            first = state[f"first.{name}"].lerp(gradient, 1 - self.first_decay)
            second = state[f"second.{name}"].lerp(gradient.square(), 1 - self.second_decay)
            count = steps.view(-1, *[1] * (gradient.dim() - 1))
            spread = (second / (1 - self.second_decay**count)).sqrt() + self.floor
            directions[name] = first / (1 - self.first_decay**count) / spread
            if self.weight_decay:
                directions[name] = directions[name] + self.weight_decay * params[name]
            new |= {f"first.{name}": first, f"second.{name}": second}
        return directions, new


def _clients(params: Arrays) -> int:
    return len(next(iter(params.values())))
