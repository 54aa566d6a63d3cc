"""What FedSP's distillation and its clients' auxiliary models will cost, said before it starts."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import torch
from torch import Tensor

from pfedmoap.wire.messages import Arrays

logger = logging.getLogger(__name__)

WORTH_SAYING_SECONDS = 60.0
WORTH_SAYING_BYTES = 2**30
COPIES = 4  # of the weights in a step: themselves, their gradients, and the optimiser's two moments


@dataclass(frozen=True)
class Cost:
    """An estimate from one timed step.

    Attributes:
        steps: Steps of distillation.
        seconds: For all of them.
        weights_bytes: Of one auxiliary model.
        step_bytes: Of one step: weights, gradients, moments, and what is kept for the gradient.
        clients: Clients whose auxiliary models are trained at once.
    """

    steps: int
    seconds: float
    weights_bytes: int
    step_bytes: int
    clients: int

    def __str__(self) -> str:
        return (
            f"FedSP distils its auxiliary model before the first round: {self.steps} steps of "
            f"about {_duration(self.seconds)} in all, and {_size(self.step_bytes)} of memory. "
            f"Each client then holds {_size(self.weights_bytes)}, and {self.clients} trained at "
            f"once take about {_size(self.clients * self.step_bytes)}: fewer with "
            "--training.clients_per_batch, shorter with --method.distillation_steps"
        )


def estimate(loss: Callable[[], Tensor], weights: Arrays, steps: int, clients: int) -> Cost:
    """Time one step, whose gradients are thrown away, and measure what it keeps.

    Args:
        loss: Computes the loss of a step from the weights.
        weights: The auxiliary's, which require gradients.
        steps: Steps that are planned.
        clients: Clients that will be trained at once.

    Returns:
        The estimate; the first step of a process is slower than others, so that it is high.
    """
    kept: dict[int, int] = {}

    def keep(saved: Tensor) -> Tensor:
        storage = saved.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return saved

    start = perf_counter()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved):
        value = loss()
    torch.autograd.grad(value, [*weights.values()], allow_unused=True)
    float(value.detach())  # waits for a GPU
    size = sum(array.nbytes for array in weights.values())
    seconds = steps * (perf_counter() - start)
    return Cost(steps, seconds, size, COPIES * size + sum(kept.values()), clients)


def announce(cost: Cost) -> None:
    """Say it, as a warning where it is worth a minute or a gigabyte."""
    total = cost.clients * cost.step_bytes
    worth = cost.seconds >= WORTH_SAYING_SECONDS or total >= WORTH_SAYING_BYTES
    logger.log(logging.WARNING if worth else logging.INFO, "%s", cost)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
