"""The interfaces of FedSP's full model, which stays on the server, and of the auxiliary model.

Both understand the same *prefix*: trainable keys and values that stand before the tokens of each
layer. It is all that is exchanged in a round; trained with the auxiliary model, it is then used
with the protected one.
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
    """What is protected, the form of the auxiliary model, and the prefix of both.

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
    """The form of the model that clients hold: an architecture without weights.

    Weights and prefix come as arguments, both with a leading axis of K clients.
    """

    @property
    def features(self) -> tuple[str, ...]:
        """Kinds of features that it reads."""
        ...

    @property
    def step_gap(self) -> str | None:
        """Why there are no per-example gradients and so no private step; ``None`` if there are."""
        ...

    @property
    def class_bond(self) -> str | None:
        """Why it is valid for its own classes only; ``None`` if it is valid for others."""
        ...

    def precompute(self, weights: Arrays, features: Arrays) -> Arrays:
        """Compute once what depends on frozen weights and examples but on no prefix.

        Args:
            weights: Frozen weights, each (K, ...).
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

    Its functions return its weights only in `first_weights`, which the server does not send:
    clients get the distilled weights.
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
        """Whether a weight must not be disclosed to clients; it may then start at random."""
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
