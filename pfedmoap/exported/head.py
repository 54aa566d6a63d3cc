"""The base of heads: from an image tower's features to logits, made of a `Folded`.

A `Folded` may come from a file of somebody else. A head checks every array's shape and every
option, and is a plain `nn.Module` that ONNX and ``torch.export`` can read. How it computes is the
methods' own code wherever that is a function of arrays.
"""

from collections.abc import Collection, Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from pfedmoap.contract.folding import Folded, Scalar
from pfedmoap.models.clip.image_tower import ImageTower
from pfedmoap.storage.strict_json import number

Answered = tuple[Tensor, Tensor | None]
"""Logits (B, C), and the weight of each expert (B, C, E) where there is a gate."""


class Head(nn.Module):
    """Classifies features of one image tower.

    Args:
        folded: What is behind the tower.
        tower: The tower.
        classes: Number C of classes.
        named: Names of its options beside ``scale``.

    Attributes:
        reads: Kinds of features; see `FrozenCLIP.features`.
        scale: Logit scale.
    """

    reads: ClassVar[tuple[str, ...]] = ("image",)

    def __init__(
        self, folded: Folded, tower: ImageTower, classes: int, named: Collection[str]
    ) -> None:
        super().__init__()
        tower.require_features(self.reads)
        self.options: Mapping[str, Scalar] = folded.options
        allowed = {"scale", *named}
        if set(folded.options) != allowed:
            raise ValueError(f"options are {sorted(folded.options)}, expected {sorted(allowed)}")
        self.scale = number(folded.options["scale"], "scale")
        self.classes = classes
        for name, value in folded.arrays.items():
            if value.is_floating_point() and not bool(torch.isfinite(value).all()):
                raise ValueError(f"{name} has values that are not finite")

    def keep(self, folded: Folded, **shapes: tuple[int | None, ...]) -> None:
        """Hold arrays as float32 buffers.

        Args:
            folded: Where they are.
            shapes: The shape of each; ``None`` where any side is right.

        Raises:
            ValueError: One is missing, unknown or has another shape.
        """
        if set(folded.arrays) != set(shapes):
            raise ValueError(f"arrays are {sorted(folded.arrays)}, expected {sorted(shapes)}")
        for name, shape in shapes.items():
            value = folded.arrays[name]
            fits = len(shape) == value.dim() and all(
                want in (None, side) for want, side in zip(shape, value.shape, strict=True)
            )
            if not fits or not value.is_floating_point():
                raise ValueError(f"{name} is {value.dtype} {tuple(value.shape)}, expected {shape}")
            self.register_buffer(name.replace(".", "_"), value.detach().float().cpu().clone())

    def forward(self, seen: Mapping[str, Tensor]) -> Answered:
        """Classify images by their features."""
        raise NotImplementedError


def sides_of(folded: Folded, name: str, count: int) -> tuple[int, ...]:
    """Return the shape of an array that has so many sides.

    Raises:
        ValueError: It is missing, or has more or fewer.
    """
    value = folded.arrays.get(name)
    if value is None or value.dim() != count:
        raise ValueError(f"{name} is missing or has other than {count} sides")
    return tuple(value.shape)
