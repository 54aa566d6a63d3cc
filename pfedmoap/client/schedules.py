"""Step sizes over time: constant or falling along a cosine, after epochs of warm-up."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import pi
from typing import Literal

import torch
from torch import Tensor

from pfedmoap.client.batches import BatchPlan
from pfedmoap.errors import ConfigError

Form = Literal["constant", "cosine"]
Horizon = Literal["round", "run"]

WARM_UP_RATE = 1e-5
"""Step size during a warm-up, the constant one of the released code."""


@dataclass(frozen=True)
class Schedule:
    """How a step size changes from epoch to epoch; with ``local_steps``, from step to step.

    With t epochs behind it and a horizon of T, after w epochs of warm-up, a cosine takes
    ``rate / 2 (1 + cos(pi (t - w) / T))``, as PyTorch's `CosineAnnealingLR` behind Dassl's warm-up
    does. In the released code of PromptFL and pFedMoAP, T is the epochs of one round and w = 1.
    There one scheduler serves all clients one after the other; here every client has its own.

    Attributes:
        form: ``constant``, or ``cosine``.
        warm_up: Epochs at the start of the horizon whose step size is `WARM_UP_RATE`, or the
            step size itself where that is less.
        horizon: Start anew in every ``round``, or go through once in the whole ``run``. The run's
            epochs go on for clients that sit a round out, so that all have the same step size.
    """

    form: Form = "constant"
    warm_up: int = 0
    horizon: Horizon = "round"

    @property
    def changes(self) -> bool:
        """Whether step sizes differ at all."""
        return self.form != "constant" or self.warm_up > 0

    def rates(self, rate: float, behind: Tensor, horizon: int) -> Tensor:
        """Compute step sizes.

        Args:
            rate: The largest step size.
            behind: Epochs t before each step, any shape.
            horizon: Epochs T.

        Returns:
            The step size of each step, like ``behind``, float32.
        """
        after = (behind - self.warm_up).clamp(0, horizon).double()
        falling = rate / 2 * (1 + (pi * after / horizon).cos())
        found = falling if self.form == "cosine" else torch.full_like(after, rate)
        slow = torch.full_like(found, min(rate, WARM_UP_RATE))
        return torch.where(behind < self.warm_up, slow, found).float()


CONSTANT = Schedule()


@dataclass(frozen=True)
class Clock:
    """What time is counted in.

    Attributes:
        epochs: Epochs of a round, or its steps, where these are given instead.
        rounds: Rounds of the run; ``None`` if unknown.
    """

    epochs: int
    rounds: int | None = None


def scheduled_rates(
    learning_rates: Mapping[str, float],
    schedules: Mapping[str, Schedule],
    plan: BatchPlan,
    clock: Clock,
) -> dict[str, Tensor]:
    """Compute each step's sizes, for the parameters whose step size changes.

    Args:
        learning_rates: Largest step size by parameter name.
        schedules: Schedule by parameter name.
        plan: The steps of K clients, on the device.
        clock: What time is counted in.

    Returns:
        By parameter name, (S, K), float32 on the plan's device; none for constant step sizes.

    Raises:
        ConfigError: A schedule goes through the whole run, whose length is unknown.
    """
    found = {}
    for name, rate in learning_rates.items():
        schedule = schedules[name]
        if schedule.changes:
            behind, horizon = _behind(plan, clock, schedule.horizon)
            found[name] = schedule.rates(rate, behind, horizon)
    return found


def _behind(plan: BatchPlan, clock: Clock, horizon: Horizon) -> tuple[Tensor, int]:
    """Epochs before each step, (S, K), and those of the horizon."""
    steps = plan.active.sum(0).clamp(min=1)  # (K,)
    order = (plan.active.cumsum(0) - 1).clamp(min=0)  # (S, K)
    within = order * clock.epochs // steps
    if horizon == "round":
        return within, clock.epochs
    if clock.rounds is None:
        raise ConfigError(
            "a schedule over the whole run needs to know how many rounds it has: give the setting "
            "its `rounds`, or choose the horizon round"
        )
    before = torch.tensor(_rounds(plan), device=within.device) - 1
    return within + clock.epochs * before, clock.epochs * clock.rounds


def _rounds(plan: BatchPlan) -> Sequence[int]:
    return [stream.round for stream in plan.streams]
