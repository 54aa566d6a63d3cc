"""A privatizer's gradients in two halves: what the host draws, and what the device computes of it.

A captured step is a fixed list of kernels: nothing in it may depend on values, wait for the
host, or draw on the host. Privatizers whose gradients can be divided like that offer a
`DeviceStep`; with all others, steps are taken one operation after the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from pfedmoap.client.batches import Batch, Stream
from pfedmoap.client.problem import BatchWide, Problem
from pfedmoap.wire.messages import Arrays


class DeviceStep(Protocol):
    """Gradients of one step, divided into work of the host and a function of tensors."""

    def blank(self, params: Arrays) -> Arrays:
        """Return zeros of the shapes that `draw` gives for one client, each (1, ...)."""
        ...

    def draw(self, params: Arrays, streams: Sequence[Stream]) -> Arrays:
        """Do all that the host has to before a step: charge it, draw its noise.

        Args:
            params: Parameters, for their shapes alone.
            streams: The K clients that take the step, without those that stand in for padding.

        Returns:
            What `gradients` needs, by name, each (K, ...), with the same shapes in every step.
        """
        ...

    def gradients(
        self, problem: Problem, params: Arrays, batch: Batch, drawn: Arrays
    ) -> tuple[Arrays, Tensor, Arrays]:
        """Compute gradients from tensors alone, without waiting for the device.

        Args:
            problem: The clients' local problem.
            params: Parameters, each (K, ...).
            batch: The step's examples; it names no streams.
            drawn: What `draw` has returned.

        Returns:
            Gradients like ``params``, each client's mean loss (K,), and what `note` is to know, by
            name, each (K, ...).
        """
        ...

    def note(self, streams: Sequence[Stream], found: Arrays) -> None:
        """Take down what a step has found out, each (K, ...), without waiting for the device."""
        ...


@runtime_checkable
class HasDeviceStep(Protocol):
    """A privatizer whose gradients may be captured."""

    @property
    def device_step(self) -> DeviceStep | None:
        """The two halves of its gradients; ``None`` where it has none after all."""
        ...


@dataclass(frozen=True)
class PlainStep:
    """Gradients of the weighted mean loss plus the penalty: nothing is drawn, nothing noted."""

    def blank(self, params: Arrays) -> Arrays:
        """Nothing is drawn."""
        del params
        return {}

    def draw(self, params: Arrays, streams: Sequence[Stream]) -> Arrays:
        """Draw nothing."""
        del params, streams
        return {}

    def gradients(
        self, problem: Problem, params: Arrays, batch: Batch, drawn: Arrays
    ) -> tuple[Arrays, Tensor, Arrays]:
        """See `plain_gradients`."""
        del drawn
        return *plain_gradients(problem, params, batch), {}

    def note(self, streams: Sequence[Stream], found: Arrays) -> None:
        """Note nothing."""
        del streams, found


def plain_gradients(problem: Problem, params: Arrays, batch: Batch) -> tuple[Arrays, Tensor]:
    """Compute gradients of K clients' weighted mean loss plus the penalty.

    Args:
        problem: The clients' local problem.
        params: Parameters, each (K, ...).
        batch: The step's examples.

    Returns:
        Gradients like ``params``, and the mean loss of each client, (K,), detached.
    """
    leaves = {name: value.detach().requires_grad_() for name, value in params.items()}
    shared = problem.represent(leaves)
    if isinstance(problem, BatchWide):
        shared = {**shared, **problem.settle(leaves, shared, batch)}
    each = problem.losses(leaves, shared, batch.features, batch.labels)
    loss = (each * batch.weight).sum(1)
    total = (loss + problem.penalty(leaves)).sum()
    found = torch.autograd.grad(total, list(leaves.values()))
    return dict(zip(leaves, found, strict=True)), loss.detach()
