"""From a PIL image to the tensor a backbone expects, with or without augmentation."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor


@dataclass(frozen=True)
class Preprocessing:
    """How one backbone wants its images: resize the short side, crop the centre, normalise.

    Attributes:
        size: Height and width of the result, in pixels.
        mean: Per-channel mean to subtract, on the [0, 1] scale.
        std: Per-channel standard deviation to divide by.
        interpolation: Filter used to resize.
        resize: ``shortest`` keeps the aspect ratio and crops the centre; ``squash`` resizes both
            sides to ``size`` (SigLIP).
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    resize: Literal["shortest", "squash"] = "shortest"

    def centre(self, image: Image.Image) -> Tensor:
        """Apply the fixed evaluation transform; returns a float32 tensor (3, size, size)."""
        if self.resize == "squash":
            box = (0.0, 0.0, float(image.width), float(image.height))
        else:
            side = min(image.width, image.height)
            left, top = (image.width - side) / 2, (image.height - side) / 2
            box = (left, top, left + side, top + side)
        return self._crop(image, box)

    def augmented(self, image: Image.Image, rng: np.random.Generator) -> Tensor:
        """Random resized crop (area 8% to 100%, aspect 3/4 to 4/3) and horizontal flip.

        The augmentation that CoOp and its federated descendants train with.

        Args:
            image: Any RGB image.
            rng: The random stream to draw from.

        Returns:
            A float32 tensor (3, size, size).
        """
        box = (0.0, 0.0, float(image.width), float(image.height))
        area = image.width * image.height
        for _ in range(10):
            target = area * rng.uniform(0.08, 1.0)
            aspect = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
            width, height = math.sqrt(target * aspect), math.sqrt(target / aspect)
            if width <= image.width and height <= image.height:
                left = rng.uniform(0, image.width - width)
                top = rng.uniform(0, image.height - height)
                box = (left, top, left + width, top + height)
                break
        tensor = self._crop(image, box)
        return tensor.flip(-1) if rng.random() < 0.5 else tensor

    def _crop(self, image: Image.Image, box: tuple[float, float, float, float]) -> Tensor:
        filters = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
        resized = image.convert("RGB").resize(
            (self.size, self.size), filters[self.interpolation], box=box
        )
        pixels = torch.from_numpy(np.asarray(resized, dtype=np.float32) / 255.0)
        mean, std = torch.tensor(self.mean), torch.tensor(self.std)
        return ((pixels - mean) / std).permute(2, 0, 1).contiguous()
