"""The white-box part of the audit: one example's influence on a step, in units of the noise.

Uploads alone cannot show every flaw: a gate that is trained without noise never leaves, and its
influence is hidden in the prompt's noise. With the code more can be tested. A step is private if
everything that it changes moves, when one example is added or removed, by at most the clipping
norm, and carries noise of ``noise_multiplier`` times that. Both are measured here, from outside:
the move by giving two neighbouring batches the same noise, and the noise by repeating a step. The
noise itself must be the same for both: one that grows as the data shrink tells how many there are.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pfedmoap.client.batches import Batch
from pfedmoap.client.problem import Problem
from pfedmoap.wire.messages import Arrays
from privacy.mechanisms.mechanism import Mechanism
from privacy.mechanisms.randomness import Randomness, SecureStream

_REPEATS = 5  # of a step, to measure its noise


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


@dataclass(frozen=True)
class Pull:
    """The influence of one example on a step.

    Attributes:
        move: The largest move in units of the measured noise, times the claimed noise multiplier:
            1 is what the claim allows; infinite where something moves and carries no noise.
        drift: Relative change of the noise itself between neighbours; 0 is what the claim allows.
    """

    move: float
    drift: float


def pull_of_one(
    mechanism: Mechanism,
    noise_multiplier: float,
    normaliser: float,
    step: Step,
    *,
    beside: Mechanism | None = None,
    neighbours: int = 4,
    seed: int = 0,
) -> Pull:
    """Measure the largest influence of an example on a step.

    Args:
        mechanism: What is audited.
        noise_multiplier: What its claim is calculated from.
        normaliser: Public number that its sums are divided by.
        step: A step of a real run.
        beside: The mechanism as it would be for data sets with one example fewer, where it was
            made for a data set; ``None`` where it is the same one.
        neighbours: How many examples of each client are taken out or put in, one at a time.
        seed: Of the noise and of the choice of examples.

    Returns:
        The worst move and the worst drift.
    """
    draws = Randomness(seed)  # a seed: neighbours are compared under the same noise

    def form(batch: Batch, repeat: int, by: Mechanism = mechanism) -> Arrays:
        noise = [draws.stream("noise", repeat, row) for row in range(len(batch.labels))]
        return by.gradients(step.problem, step.params, batch, noise)[0]

    base, again, *more = (form(step.batch, repeat) for repeat in range(_REPEATS))
    std = {
        name: (torch.stack([one[name] for one in (again, *more)]) - value).std() / 2**0.5
        for name, value in base.items()
    }
    move, drift = 0.0, 0.0
    for neighbour in _neighbours(step.batch, normaliser, neighbours, draws):
        moved, moved_again = (form(neighbour, repeat, beside or mechanism) for repeat in (0, 1))
        total = torch.zeros(len(step.batch.labels), device=step.batch.labels.device)
        for name, value in base.items():
            gap, other = (
                (moved[name] - value).flatten(1),
                (moved_again[name] - again[name]).flatten(1),
            )
            # The product of two draws' differences: rounding errors cancel on average.
            size = (gap * other).sum(1)
            total += torch.where(gap.abs().amax(1) > 0, size / std[name].square(), 0.0)
        move = max(move, float(total.clamp(min=0).sqrt().max()))
        drift = max(drift, _drift(base, again, moved, moved_again))
    return Pull(move * noise_multiplier, drift)


def _drift(base: Arrays, again: Arrays, moved: Arrays, moved_again: Arrays) -> float:
    """Compare the difference of two draws, in which the signal cancels, between neighbours."""
    worst = 0.0
    for name, value in base.items():
        before = (again[name] - value).flatten(1).double()  # (K, d), nothing but noise
        after = (moved_again[name] - moved[name]).flatten(1).double()
        size = before.square().sum(1)
        ratio = (before * after).sum(1) / size.clamp(min=1e-300)
        worst = max(worst, float(torch.where(size > 0, (ratio - 1).abs(), 0.0).max()))
    return worst


def _neighbours(batch: Batch, normaliser: float, count: int, draws: Randomness) -> Iterator[Batch]:
    width = batch.weight.shape[1]
    for column in draws.stream("columns").permutation(width)[:count].tolist():
        weight = batch.weight.clone()
        weight[:, column] = torch.where(weight[:, column] > 0, 0.0, 1 / normaliser)
        yield replace(batch, weight=weight)
