"""Per-example gradients of parameters that all examples of a batch share.

A prompt enters the loss of every example through one encoding of the class names, so that no
layer sees it once for each example, and Opacus' gradient samplers (hooks, functorch, ghost) cannot
separate the examples. But the loss separates: the gradient of one example's loss with respect to
the *class features* is cheap, and one batched vector-Jacobian product through one text graph turns
all of these into gradients of the prompt. One forward pass serves the whole batch.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.func import grad_and_value, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from pfedmoap.client.batches import Batch
from pfedmoap.client.problem import Problem
from pfedmoap.models.clip.compiled import uncompiled
from pfedmoap.wire.messages import Arrays

_LIVE_ACTIVATIONS = 8  # gradients of about this many large activations live at once


def per_example_gradients(
    problem: Problem, params: Arrays, batch: Batch, memory_bytes: int
) -> Iterator[tuple[Arrays, Tensor]]:
    """Differentiate each example's loss; neither weights nor the penalty enter.

    The client axis stays: gradients of K clients are formed side by side, and none of them sees
    another client's examples.

    Args:
        problem: The clients' local problem.
        params: Parameters, each (K, ...).
        batch: The step's examples, (K, B).
        memory_bytes: Bound on the gradients of activations that live at once; beyond it, examples
            are taken in chunks.

    Yields:
        For consecutive chunks of b examples: gradients, each (K, b, ...), and losses (K, b).
    """
    leaves = {name: value.detach().requires_grad_() for name, value in params.items()}
    largest = _Largest()
    hooks = torch.autograd.graph.saved_tensors_hooks(largest.note, _same)
    with torch.enable_grad(), uncompiled(), _plain_attention(batch.labels.device), hooks:
        shared = problem.represent(leaves)
    graph = {name: value for name, value in shared.items() if value.requires_grad}
    chunk = max(1, memory_bytes // max(1, _LIVE_ACTIVATIONS * largest.bytes))
    values = {name: value.detach() for name, value in shared.items()}

    def one(
        params: Arrays, through: Arrays, features: Arrays, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        single = {kind: value.unsqueeze(1) for kind, value in features.items()}
        each = problem.losses(params, {**values, **through}, single, labels.unsqueeze(1))  # (K, 1)
        return each.sum(), each[:, 0]

    differentiate = vmap(
        grad_and_value(one, argnums=(0, 1), has_aux=True), in_dims=(None, None, 1, 1)
    )
    through = {name: values[name] for name in graph}
    detached = {name: value.detach() for name, value in leaves.items()}
    count = batch.labels.shape[1]
    for start in range(0, count, chunk):
        span = slice(start, min(start + chunk, count))
        features = {kind: value[:, span] for kind, value in batch.features.items()}
        (direct, towards), (_, losses) = differentiate(
            detached, through, features, batch.labels[:, span]
        )
        pulled = _pull_back(graph, leaves, towards)
        found = {name: direct[name] + pulled[name] for name in leaves}
        yield {name: value.transpose(0, 1) for name, value in found.items()}, losses.mT


def _plain_attention(device: torch.device) -> AbstractContextManager[None]:
    """Take attention apart where its fused kernel would be launched once for every example.

    A library's own text tower calls it. Its backward pass has no batching rule; on a CPU one call
    after the other costs little.
    """
    return nullcontext() if device.type == "cpu" else sdpa_kernel(SDPBackend.MATH)


def _pull_back(graph: Arrays, leaves: Arrays, towards: Arrays) -> dict[str, Tensor]:
    """Send gradients of shared values (b, K, ...) back to the parameters, each (b, K, ...)."""
    if not graph:
        return {name: value.new_zeros(()) for name, value in leaves.items()}
    found = torch.autograd.grad(
        list(graph.values()),
        list(leaves.values()),
        [towards[name] for name in graph],
        is_grads_batched=True,
        retain_graph=True,
        allow_unused=True,
    )
    return {
        name: value.new_zeros(()) if gradient is None else gradient
        for (name, value), gradient in zip(leaves.items(), found, strict=True)
    }


class _Largest:
    """Records the size of the largest activation that a graph keeps."""

    def __init__(self) -> None:
        self.bytes = 0

    def note(self, kept: Tensor) -> Tensor:
        self.bytes = max(self.bytes, kept.numel() * kept.element_size())
        # Not the tensor itself: where it is the output of the step that keeps it, the graph would
        # hold itself alive through C++, where no collector looks.
        return kept.detach()


def _same(kept: Tensor) -> Tensor:
    return kept
