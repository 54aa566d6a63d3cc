"""The white-box half of the audit: one example's pull on a step, measured in units of the noise.

Uploads alone cannot show every flaw: a gate that is trained without noise never leaves, and its
influence hides in the prompt's noise. Whoever holds the code can ask more. A step is private if
everything that it changes moves, when one example is added or removed, by at most the clipping
norm, and carries noise of ``noise_multiplier`` times that. Both are measured here, from outside:
the move by giving two neighbouring batches the same noise, and the noise by repeating a step.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pfedmoap.batches import Batch
from pfedmoap.gradients import Problem
from pfedmoap.types import Arrays
from privacy.mechanism import Mechanism
from privacy.randomness import Randomness, SecureStream


@dataclass(frozen=True)
class Step:
    """One step of a real run, as the mechanism saw it.

    Attributes:
        problem: The clients' local problem.
        params: Parameters, each (K, ...).
        batch: The step's examples.
    """

    problem: Problem
    params: Arrays
    batch: Batch


@dataclass
class Tapped:
    """Passes steps on to a mechanism, and keeps the last one of each kind.

    Attributes:
        mechanism: What forms the gradients.
        steps: The last step of each set of parameters.
    """

    mechanism: Mechanism
    steps: dict[tuple[str, ...], Step]

    def gradients(
        self, problem: Problem, params: Arrays, batch: Batch, noise: Sequence[SecureStream]
    ) -> tuple[Arrays, Tensor]:
        """Form gradients; see `Mechanism.gradients`."""
        if bool((batch.weight > 0).any()):
            self.steps[tuple(sorted(params))] = Step(problem, params, batch)
        return self.mechanism.gradients(problem, params, batch, noise)


def relative_sensitivity(
    mechanism: Mechanism,
    noise_multiplier: float,
    normaliser: float,
    step: Step,
    *,
    neighbours: int = 8,
    seed: int = 0,
) -> float:
    """Measure the worst move of a step, where 1 is what the claim allows.

    Args:
        mechanism: What is audited.
        noise_multiplier: What its claim is calculated from.
        normaliser: Public number that its sums are divided by.
        step: A step of a real run.
        neighbours: How many examples of each client are taken out or put in, one at a time.
        seed: Of the noise and of the choice of examples.

    Returns:
        The largest move in units of the measured noise, times the claimed noise multiplier;
        infinite where something moves and carries no noise.
    """
    draws = Randomness(seed)  # a seed: neighbours are compared under the same noise

    def form(batch: Batch, repeat: int) -> Arrays:
        noise = [draws.stream("noise", repeat, row) for row in range(len(batch.labels))]
        return mechanism.gradients(step.problem, step.params, batch, noise)[0]

    base = form(step.batch, 0)
    repeats = [form(step.batch, repeat) for repeat in range(1, 9)]
    std = {
        name: (torch.stack([one[name] for one in repeats]) - base[name]).std() / 2**0.5
        for name in base
    }
    worst = 0.0
    for neighbour in _neighbours(step.batch, normaliser, neighbours, draws):
        moved = form(neighbour, 0)
        total = torch.zeros(len(step.batch.labels), device=step.batch.labels.device)
        for name, value in moved.items():
            gap = (value - base[name]).flatten(1).norm(dim=1)
            total += torch.where(gap > 0, (gap / std[name]).square(), 0.0)
        worst = max(worst, float(total.sqrt().max()))
    return worst * noise_multiplier


def _neighbours(batch: Batch, normaliser: float, count: int, draws: Randomness) -> Iterator[Batch]:
    width = batch.weight.shape[1]
    for column in draws.stream("columns").permutation(width)[:count].tolist():
        weight = batch.weight.clone()
        weight[:, column] = torch.where(weight[:, column] > 0, 0.0, 1 / normaliser)
        yield replace(batch, weight=weight)
