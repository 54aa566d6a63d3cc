"""The client's small frozen encoder, whose features are the prompt generator's input."""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from pfedmoap.seeding import generator

CHANNELS = 32
POOLED = 4  # side of the map that is projected


@dataclass(frozen=True)
class RandomEncoder:
    """Random convolutions from a public seed, never trained, the same for all clients.

    BlackVIP uses a pretrained MAE ViT-B here, which no client of a 32-pixel model needs and which
    this package does not ship. Two strided 3 x 3 convolutions with ReLU, average pooling to 4 x 4
    and a random projection; the result has zero mean and unit variance over an image's features.

    Attributes:
        size: Number F of features.
        seed: Public seed of the weights.
    """

    size: int
    seed: int = 0

    def __call__(self, images: Tensor) -> Tensor:
        """Encode preprocessed images (B, 3, S, S) to features (B, F) that sum to zero."""
        first, second, projection = (weight.to(images.device) for weight in self._weights)
        small = F.adaptive_avg_pool2d(images, min(64, images.shape[-1]))
        hidden = F.relu(F.conv2d(small, first, stride=2, padding=1))
        hidden = F.relu(F.conv2d(hidden, second, stride=2, padding=1))
        pooled = F.adaptive_avg_pool2d(hidden, POOLED).flatten(1)
        features: Tensor = F.layer_norm(pooled @ projection, (self.size,))
        return features

    @cached_property
    def _weights(self) -> tuple[Tensor, Tensor, Tensor]:
        stream = generator(self.seed, "random encoder")

        def draw(*shape: int, fan_in: int) -> Tensor:
            return torch.randn(shape, generator=stream) * math.sqrt(2 / fan_in)

        return (
            draw(CHANNELS, 3, 3, 3, fan_in=27),
            draw(CHANNELS, CHANNELS, 3, 3, fan_in=9 * CHANNELS),
            draw(CHANNELS * POOLED**2, self.size, fan_in=CHANNELS * POOLED**2),
        )
