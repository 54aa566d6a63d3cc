"""One step of DP-SGD for K clients: clip each example, sum, add noise, divide."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from pfedmoap.client.batches import Batch, Stream
from pfedmoap.client.placement import placed
from pfedmoap.client.problem import Problem
from pfedmoap.wire.messages import Arrays, ClientId
from privacy.mechanisms.adaptive_clipping import AdaptiveClipping
from privacy.mechanisms.clipping import Clipping, FixedClipping
from privacy.mechanisms.cohort_sum import CohortSum
from privacy.mechanisms.groups import GroupMeans
from privacy.mechanisms.noisy_sum import draw_noises
from privacy.mechanisms.per_example import per_example_gradients
from privacy.mechanisms.randomness import SecureStream
from privacy.mechanisms.tally import Tally


class Mechanism(Protocol):
    """Forms one step's private gradients."""

    def gradients(
        self, problem: Problem, params: Arrays, batch: Batch, noise: Sequence[SecureStream]
    ) -> tuple[Arrays, Tensor]:
        """Form gradients; see `pfedmoap.client.privatizer.Privatizer.gradients`.

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
    finite: an infinity would pass the clipping and be visible in the sum.

    Attributes:
        noise_multiplier: Standard deviation of the noise, as a multiple of ``max_grad_norm``.
        max_grad_norm: Clipping norm C.
        normaliser: Public number that the noisy sum is divided by.
        memory_bytes: Bound on what per-example gradients take; see `per_example_gradients`.
        tally: Counts what is clipped, without noise; not private, stays with the client.
        adaptive: How a client's clipping norm moves from step to step within a round, in which
            it starts from ``max_grad_norm``; ``None`` keeps it.
        norms: For each client the round of its last step, and the norm that this step has left.
    """

    noise_multiplier: float
    max_grad_norm: float
    normaliser: float
    memory_bytes: int = 2**30
    tally: Tally = field(default_factory=Tally)
    adaptive: AdaptiveClipping | None = None
    norms: dict[ClientId, tuple[int, Tensor | float]] = field(init=False, default_factory=dict)

    def gradients(
        self, problem: Problem, params: Arrays, batch: Batch, noise: Sequence[SecureStream]
    ) -> tuple[Arrays, Tensor]:
        """Form one step's private gradients; the penalty, free of data, is added afterwards."""
        device = next(iter(params.values())).device
        drawn = {
            name: placed(value, device)
            for name, value in self.draw(params, batch.streams, noise).items()
        }
        found, loss, counted = self.form(problem, params, batch, drawn)
        self.note(batch.streams, counted)
        return found, loss

    def draw(
        self, params: Arrays, whose: Sequence[Stream], noise: Sequence[SecureStream]
    ) -> dict[str, Tensor]:
        """Draw the noise of a step, on the CPU.

        Args:
            params: Parameters, for their shapes and device.
            whose: The K clients.
            noise: Where each one's noise comes from.

        Returns:
            ``noise`` (K, P) float64 on the fine grid of a sum of P numbers, absent where there is
            none, and ``norm`` (K,), the clients' clipping norms, which lie where steps left them.
        """
        drawn = {"norm": self._norms(whose)}
        if self.noise_multiplier:
            device = next(iter(params.values())).device
            drawn["noise"] = draw_noises(self._std, self._size(params), noise, device)
        return drawn

    def blank(self, params: Arrays) -> dict[str, Tensor]:
        """Zeros of the shapes that `draw` gives for one client."""
        blank = {"norm": torch.zeros(1)}
        if self.noise_multiplier:
            blank["noise"] = torch.zeros(1, self._size(params), dtype=torch.float64)
        return blank

    def form(
        self, problem: Problem, params: Arrays, batch: Batch, drawn: Arrays
    ) -> tuple[Arrays, Tensor, dict[str, Tensor]]:
        """Form private gradients from tensors alone, of all clients side by side.

        Args:
            problem: The clients' local problem.
            params: Parameters, each (K, ...).
            batch: The step's examples.
            drawn: What `draw` has returned.

        Returns:
            Gradients like ``params``, each client's mean loss (K,), and what `note` takes down.
        """
        step = CohortSum(self._clipping, params, drawn["norm"], self.max_grad_norm)
        losses, start = [], 0
        people = None if batch.owner is None else GroupMeans(batch.owner, batch.weight > 0)
        for samples, each in per_example_gradients(problem, params, batch, self.memory_bytes):
            present = batch.weight[:, start : start + each.shape[1]] > 0  # (K, b)
            kept, there = _contributing(samples, present)
            losses.append(each * present)
            if people is None:
                step.add(kept, there)
            else:
                people.add(start, kept)
            start += each.shape[1]
        if people is not None:
            # Finite gradients can have a mean that is none: their sum may exceed float32.
            step.add(*_contributing(people.means(), people.present))
        found, norm = step.finish(self._std, drawn.get("noise"))
        present = batch.weight > 0
        loss = torch.cat(losses, dim=1).sum(1) / present.sum(1).clamp(min=1)
        counted = {"longer": step.longer, "every": step.every, "norm": norm}
        return with_penalty(problem, params, found), loss, counted

    def note(self, whose: Sequence[Stream], counted: Arrays) -> None:
        """Count what was clipped, and keep each client's norm for its next step in the round."""
        clients = [who.client for who in whose]
        self.tally.count(clients, counted["longer"], counted["every"])
        for who, norm in zip(whose, counted["norm"].unbind(), strict=True):
            self.norms[who.client] = (who.round, norm)

    def _norms(self, whose: Sequence[Stream]) -> Tensor:
        """The clipping norms that clients' last steps in this round have left, (K,)."""
        left = [self.norms.get(who.client, (who.round, self.max_grad_norm)) for who in whose]
        now = [
            norm if round == who.round else self.max_grad_norm
            for (round, norm), who in zip(left, whose, strict=True)
        ]
        tensors = [norm for norm in now if isinstance(norm, Tensor)]
        device = tensors[0].device if tensors else None  # a round's first step begins on the CPU
        return torch.stack([torch.as_tensor(norm, device=device) for norm in now]).float()

    def _size(self, params: Arrays) -> int:
        """How many numbers one client's sum has."""
        own = self._clipping.summed({name: value[0] for name, value in params.items()})
        return sum(value.numel() for value in own.values())

    @property
    def _std(self) -> float:
        return self.noise_multiplier * self._clipping.limit(self.max_grad_norm)

    @property
    def _clipping(self) -> Clipping:
        return self.adaptive or FixedClipping(self.noise_multiplier, self.normaliser)


def _contributing(samples: Arrays, present: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Set gradients (K, b, ...) of padding, and those that are not finite, to zero.

    Returns:
        The gradients, and which of them are left as they were, (K, b).
    """
    for value in samples.values():
        present = present & value.flatten(2).isfinite().all(2)
    kept = {
        name: torch.where(present.view(*present.shape, *[1] * (value.dim() - 2)), value, 0.0)
        for name, value in samples.items()
    }
    return kept, present


def with_penalty(problem: Problem, params: Arrays, gradients: Arrays) -> Arrays:
    """Add the gradient of the regulariser, which costs no privacy: it depends on no data.

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
