"""One step of DP-SGD for K clients: clip each example, sum, add noise, divide."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from pfedmoap.batches import Batch
from pfedmoap.gradients import Problem
from pfedmoap.types import Arrays
from privacy.groups import GroupMeans
from privacy.noisy_sum import NoisySum
from privacy.per_example import per_example_gradients
from privacy.randomness import SecureStream


class Mechanism(Protocol):
    """Forms one step's private gradients."""

    def gradients(
        self, problem: Problem, params: Arrays, batch: Batch, noise: Sequence[SecureStream]
    ) -> tuple[Arrays, Tensor]:
        """Form gradients; see `pfedmoap.gradients.Privatizer.gradients`.

        Args:
            problem: The clients' local problem.
            params: Parameters, each (K, ...).
            batch: The step's examples.
            noise: One stream for each of the K clients.
        """
        ...


@dataclass(frozen=True)
class SampledGaussian:
    """The Gaussian mechanism of DP-SGD (Abadi et al., CCS 2016, Algorithm 1) with Opacus.

    **Unit**: one training example of one client, or, where the batch says whose its examples are,
    all training examples of one person at one client. **Neighbours**: add or remove it. The sum of
    a client's clipped gradients, of a person's mean gradients there, changes by at most
    ``max_grad_norm`` in l2, over *all* of its parameters together; the noise's standard deviation
    is ``noise_multiplier`` times that.

    **Not covered**: how many examples the step has (only timing shows it), and everything outside
    the gradients, such as the losses that are returned beside them.

    A client's padding contributes exactly zero, and so does an example whose gradient is not
    finite: an infinity would pass the clipping and show itself in the sum.

    Attributes:
        noise_multiplier: Standard deviation of the noise, as a multiple of ``max_grad_norm``.
        max_grad_norm: Clipping norm C.
        normaliser: Public number that the noisy sum is divided by.
        memory_bytes: Bound on what per-example gradients take; see `per_example_gradients`.
    """

    noise_multiplier: float
    max_grad_norm: float
    normaliser: float
    memory_bytes: int = 2**30

    def gradients(
        self, problem: Problem, params: Arrays, batch: Batch, noise: Sequence[SecureStream]
    ) -> tuple[Arrays, Tensor]:
        """Form one step's private gradients; the penalty, free of data, is added afterwards."""
        sums = [
            NoisySum(
                {name: value[row] for name, value in params.items()},
                noise_multiplier=self.noise_multiplier,
                max_norm=self.max_grad_norm,
                normaliser=self.normaliser,
                stream=stream,
            )
            for row, stream in enumerate(noise)
        ]
        losses = []
        start = 0
        people = None if batch.owner is None else GroupMeans(batch.owner, batch.weight > 0)
        for samples, each in per_example_gradients(problem, params, batch, self.memory_bytes):
            present = batch.weight[:, start : start + each.shape[1]] > 0  # (K, b)
            kept = _contributing(samples, present)
            losses.append(each * present)
            if people is None:
                _add(sums, kept)
            else:
                people.add(start, kept)
            start += each.shape[1]
        if people is not None:
            _add(sums, people.means())
        rows = [client.finish() for client in sums]
        found = {name: torch.stack([row[name] for row in rows]) for name in params}
        present = batch.weight > 0
        loss = torch.cat(losses, dim=1).sum(1) / present.sum(1).clamp(min=1)
        return with_penalty(problem, params, found), loss


def _add(sums: Sequence[NoisySum], vectors: Arrays) -> None:
    """Add each client's vectors, (K, n, ...), to its sum, each of them clipped."""
    for row, client in enumerate(sums):
        client.add({name: value[row] for name, value in vectors.items()})


def _contributing(samples: Arrays, present: Tensor) -> dict[str, Tensor]:
    """Set gradients (K, b, ...) of padding, and those that are not finite, to zero."""
    for value in samples.values():
        present = present & value.flatten(2).isfinite().all(2)
    return {
        name: torch.where(present.view(*present.shape, *[1] * (value.dim() - 2)), value, 0.0)
        for name, value in samples.items()
    }


def with_penalty(problem: Problem, params: Arrays, gradients: Arrays) -> Arrays:
    """Add the gradient of the regulariser, which costs no privacy: it sees no data.

    Args:
        problem: The clients' local problem.
        params: Parameters, each (K, ...).
        gradients: Private gradients, each (K, ...).

    Returns:
        The sum, each (K, ...).
    """
    leaves = {name: value.detach().requires_grad_() for name, value in params.items()}
    with torch.enable_grad():
        penalty = problem.penalty(leaves).sum()
    if not penalty.requires_grad:
        return gradients
    pulls = torch.autograd.grad(penalty, list(leaves.values()), allow_unused=True)
    return {
        name: gradients[name] if pull is None else gradients[name] + pull
        for name, pull in zip(leaves, pulls, strict=True)
    }
