"""The prompt generator: from an image's features and a trainable trigger to an image-sized prompt.

The "coordinator" of Oh et al., "BlackVIP" (CVPR 2023, arXiv 2303.14773), section 3.2, as a function
of one flat vector of parameters, as zeroth-order optimisation needs it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from pfedmoap.errors import ConfigError, ShapeError
from pfedmoap.seeding import generator
from pfedmoap.wire.messages import Arrays

Normalise = Callable[[int, Tensor, Tensor, Tensor], Tensor]  # stage, input, scale, shift
Normalisation = Literal["group", "frozen-batch"]

STAGES = 5  # each doubles the side
CELL = 32  # so that each entry of the latent map becomes so many pixels
KERNEL = 4  # of the depthwise transposed convolutions: stride 2, padding 1
GROUPS = 4
CALIBRATION_IMAGES = 16
EPSILON = 1e-5


@dataclass(frozen=True)
class PromptGenerator:
    """Five stages of transposed convolution behind a latent map of features and trigger.

    The latent map is (width, h, h) with ``h = size / 32``, rounded up: half of its entries are the
    image's features (F of them), half the trigger. Stage i: depthwise 4 x 4 transposed convolution
    with stride 2, then 1 x 1; normalisation and GELU follow on all but the last. With width 32 the
    channels are the paper's: 32 -> 64 -> 32 -> 32 -> 16 -> 3. A larger result is cropped.

    Normalisation uses no other examples and has no running statistics: with two perturbed passes
    for each draw, these would measure the perturbations. ``group`` is group
    normalisation; ``frozen-batch`` is batch normalisation with constant statistics, measured once
    with the initial weights on random latent maps from the public seed.

    The last 1 x 1 convolution starts at zero, so that the first prompt is zero and training
    starts from the unprompted model.

    Attributes:
        size: Height and width S of the images, in pixels.
        width: Channels of the latent map.
        normalisation: See above.
        seed: Seed of the initial parameters.
    """

    size: int
    width: int = 32
    normalisation: Normalisation = "group"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.width < 8 or self.width % 8:
            raise ConfigError(f"the generator's width is {self.width}, expected a multiple of 8")

    @property
    def side(self) -> int:
        """Side h of the latent map."""
        return math.ceil(self.size / CELL)

    @property
    def feature_size(self) -> int:
        """Number F of image features, which is also the number of entries of the trigger."""
        return self.width * self.side * self.side // 2

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each parameter, in the order of the flat vector."""
        shapes: dict[str, tuple[int, ...]] = {"trigger": (self.feature_size,)}
        for stage, (inside, out) in enumerate(self._channels):
            shapes[f"depthwise{stage}"] = (inside, 1, KERNEL, KERNEL)
            shapes[f"pointwise{stage}"] = (out, inside, 1, 1)
            if stage < STAGES - 1:
                shapes[f"scale{stage}"] = (out,)
            shapes[f"shift{stage}"] = (out,)
        return shapes

    @property
    def parameters(self) -> int:
        """Number G of parameters."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    def initial(self) -> Tensor:
        """Draw the initial parameters, (G,) float32.

        The trigger is U(0, 0.1), as in the paper; kernels keep the variance of what goes through.
        """
        stream = generator(self.seed, "prompt generator")
        values = []
        for name, shape in self.shapes.items():
            if name == "trigger":
                value = 0.1 * torch.rand(shape, generator=stream)
            elif name.startswith("depthwise"):  # KERNEL^2 / 4 taps reach each pixel
                value = 2 / KERNEL * torch.randn(shape, generator=stream)
            elif name.startswith("pointwise") and name != f"pointwise{STAGES - 1}":
                value = torch.randn(shape, generator=stream) / shape[1] ** 0.5
            else:
                value = torch.ones(shape) if name.startswith("scale") else torch.zeros(shape)
            values.append(value.flatten())
        return torch.cat(values)

    def __call__(self, parameters: Tensor, features: Tensor) -> Tensor:
        """Make one prompt for each image.

        Args:
            parameters: (G,); the result is differentiable with respect to them.
            features: (B, F).

        Returns:
            Prompts, (B, 3, S, S), unbounded.

        Raises:
            ShapeError: The parameters or features do not fit.
        """
        if parameters.shape != (self.parameters,) or features.shape[1:] != (self.feature_size,):
            raise ShapeError(
                f"parameters have shape {tuple(parameters.shape)} and features "
                f"{tuple(features.shape)}, expected ({self.parameters},) and "
                f"(B, {self.feature_size})"
            )
        named = self._unflatten(parameters)
        trigger = named["trigger"].expand(len(features), -1)
        latent = torch.cat([features, trigger], 1).unflatten(1, (self.width, self.side, self.side))
        prompt = self._decode(named, latent, self._normalise)
        return prompt[:, :, : self.size, : self.size]

    @property
    def _channels(self) -> list[tuple[int, int]]:
        widths = [self.width, 2 * self.width, self.width, self.width, self.width // 2, 3]
        return list(pairwise(widths))

    def _unflatten(self, parameters: Tensor) -> dict[str, Tensor]:
        sizes = [math.prod(shape) for shape in self.shapes.values()]
        parts = parameters.split(sizes)
        return {
            name: part.view(shape)
            for (name, shape), part in zip(self.shapes.items(), parts, strict=True)
        }

    def _decode(self, named: Arrays, hidden: Tensor, normalise: Normalise) -> Tensor:
        """From latent maps (B, width, h, h) to prompts (B, 3, 32 h, 32 h)."""
        for stage, (inside, _) in enumerate(self._channels):
            if stage:
                before = stage - 1
                scale, shift = named[f"scale{before}"], named[f"shift{before}"]
                hidden = F.gelu(normalise(before, hidden, scale, shift))
            hidden = F.conv_transpose2d(
                hidden, named[f"depthwise{stage}"], stride=2, padding=1, groups=inside
            )
            hidden = F.conv2d(hidden, named[f"pointwise{stage}"])
        return hidden + named[f"shift{STAGES - 1}"][:, None, None]

    @cached_property
    def _normalise(self) -> Normalise:
        if self.normalisation == "group":
            return _group
        if self.normalisation != "frozen-batch":
            raise ConfigError(
                f"normalisation is {self.normalisation!r}, expected group or frozen-batch"
            )
        stream = generator(self.seed, "prompt generator", "calibration")
        latent = torch.rand(
            (CALIBRATION_IMAGES, self.width, self.side, self.side), generator=stream
        )
        statistics: list[tuple[Tensor, Tensor]] = []

        def measure(stage: int, hidden: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
            variance, mean = torch.var_mean(hidden, (0, 2, 3), correction=0)
            statistics.append((mean, variance))
            return frozen(stage, hidden, scale, shift)

        def frozen(stage: int, hidden: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
            mean, variance = (value.to(hidden) for value in statistics[stage])
            return F.batch_norm(hidden, mean, variance, scale, shift, eps=EPSILON)

        with torch.no_grad():
            self._decode(self._unflatten(self.initial()), latent, measure)
        return frozen


def _group(stage: int, hidden: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    del stage
    return F.group_norm(hidden, GROUPS, scale, shift, EPSILON)
