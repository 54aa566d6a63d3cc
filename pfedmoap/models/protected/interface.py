"""What FedSP needs of a model that must not leave its server, and of the one that clients hold.

Both understand the same *prefix*: trainable keys and values that stand before the tokens of each
layer. It is all that travels in a round; what it learns against the auxiliary model is meant to
serve the protected one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from pfedmoap.models.protected.towers import Shape
from pfedmoap.seeding import generator
from pfedmoap.wire.messages import Arrays

Towers = Literal["text", "both"]


@dataclass(frozen=True)
class Protection:
    """What is protected, what stands in for it, and the prefix between the two.

    Attributes:
        protects: ``both`` towers of a CLIP, or the ``text`` tower alone, with a public image tower;
            a language model is one tower.
        prefixed: Which towers have a prefix.
        prefix_length: Keys and values p in each layer.
        shape: Form of the auxiliary's towers.
        blocks: Blocks that each of them stores.
        batch_size: Texts in a step of distillation.
    """

    protects: Towers
    prefixed: Towers
    prefix_length: int
    shape: Shape
    blocks: int
    batch_size: int


class AuxiliaryModel(Protocol):
    """The form of the model that clients hold: an architecture without a single weight.

    Weights and prefix come as arguments, both with a leading axis of K clients.
    """

    @property
    def features(self) -> tuple[str, ...]:
        """Kinds of features that it reads."""
        ...

    @property
    def step_gap(self) -> str | None:
        """Why no private step exists, for want of per-example gradients; ``None`` if it does."""
        ...

    @property
    def class_bond(self) -> str | None:
        """Why it means nothing for other classes than its own; ``None`` if it does."""
        ...

    def precompute(self, weights: Arrays, features: Arrays) -> Arrays:
        """Compute what frozen weights make of examples, once, where no prefix has a say in it.

        Args:
            weights: Weights that stand still, each (K, ...).
            features: Examples by kind, (K, n, V, ...).

        Returns:
            What takes the place of the examples, by kind, (K, n, V, ...); they themselves where
            there is nothing to save.
        """
        ...

    def represent(self, weights: Arrays, prefix: Arrays) -> Arrays:
        """Compute what a client's examples share, by name, each (K, ...)."""
        ...

    def logits(self, weights: Arrays, prefix: Arrays, shared: Arrays, features: Arrays) -> Tensor:
        """Score every class or choice, (K, B, C)."""
        ...

    def losses(
        self, weights: Arrays, prefix: Arrays, shared: Arrays, features: Arrays, labels: Tensor
    ) -> Tensor:
        """Compute one loss for each example, (K, B)."""
        ...


class ProtectedModel(Protocol):
    """The full model on the server.

    Its weights are in no value that its functions return but `first_weights`, which is for the
    server's eyes: what goes to clients is what distillation makes of it.
    """

    @property
    def features(self) -> tuple[str, ...]:
        """Kinds of features that it reads, on the server alone."""
        ...

    @property
    def auxiliary(self) -> AuxiliaryModel:
        """The form of the clients' model."""
        ...

    @property
    def prefix_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each part of the prefix by name: (layers, 2, p, W), keys before values."""
        ...

    def first_weights(self) -> Arrays:
        """Cut the auxiliary's weights out of the model, as they are before distillation."""
        ...

    def is_hidden(self, name: str) -> bool:
        """Whether one of these weights is not to be known to clients, and may start at random."""
        ...

    def distillation_loss(self, weights: Arrays, features: Arrays, step: int) -> Tensor:
        """Compare the auxiliary's hidden states with the model's own, without a prefix.

        Args:
            weights: The auxiliary's weights, each (1, ...).
            features: The server's examples of this step, by kind, (B, ...).
            step: Which step, for what is sampled beside the examples.

        Returns:
            Mean squared error, a scalar.
        """
        ...

    def represent(self, prefix: Arrays) -> Arrays:
        """Compute what all examples share under K prefixes, by name, each (K, ...)."""
        ...

    def logits(self, prefix: Arrays, shared: Arrays, features: Arrays) -> Tensor:
        """Score every class or choice with the full model, (K, B, C)."""
        ...

    def losses(self, prefix: Arrays, shared: Arrays, features: Arrays, labels: Tensor) -> Tensor:
        """Compute one loss for each example with the full model, (K, B)."""
        ...


def draw_prefix(shapes: Mapping[str, tuple[int, ...]], std: float, seed: int) -> Arrays:
    """Draw the prefix that a federation starts from, keys and values alike.

    Args:
        shapes: Shape of each part; see `ProtectedModel.prefix_shapes`.
        std: Standard deviation of the normal distribution.
        seed: Seed of the draw.

    Returns:
        The prefix by part.
    """
    return {
        name: std * torch.randn(shape, generator=generator(seed, "prefix", name))
        for name, shape in shapes.items()
    }
