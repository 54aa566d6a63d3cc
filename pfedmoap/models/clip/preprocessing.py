"""From a PIL image to the tensor a backbone expects, with or without augmentation."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

Interpolation = Literal["bicubic", "bilinear"]
Resize = Literal["shortest", "longest", "squash"]


@dataclass(frozen=True)
class Preprocessing:
    """A backbone's image preprocessing.

    Attributes:
        size: Height and width of the result, in pixels.
        mean: Per-channel mean to subtract, on the [0, 1] scale.
        std: Per-channel standard deviation to divide by.
        interpolation: Filter used to resize.
        resize: ``shortest`` scales the short side to ``size`` and crops the centre; ``longest``
            scales the long side and pads; ``squash`` resizes both sides (SigLIP).
        fill: Grey level of the padding, 0 to 255.
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: Interpolation = "bicubic"
    resize: Resize = "shortest"
    fill: int = 0

    def __repr__(self) -> str:
        """All that decides pixels; a part of fingerprints, so that black padding goes unsaid."""
        padding = f", fill={self.fill!r}" if self.fill else ""
        return (
            f"Preprocessing(size={self.size!r}, mean={self.mean!r}, std={self.std!r}, "
            f"interpolation={self.interpolation!r}, resize={self.resize!r}{padding})"
        )

    def centre(self, image: Image.Image) -> Tensor:
        """Apply the fixed evaluation transform, open_clip's own.

        Args:
            image: Any RGB image.

        Returns:
            A float32 tensor (3, size, size).
        """
        resize, rest = self._transform
        found = resize(image.convert("RGB"))
        tensor: Tensor = self._normalised(found) if rest is None else rest(found)
        return tensor

    @cached_property
    def _transform(self) -> tuple[Any, Any]:  # torchvision's transforms are untyped
        """Resizing and cropping, and what comes after it; ``None`` for `_normalised`."""
        import open_clip  # takes seconds, with torchvision, timm and transformers
        from torchvision.transforms import Compose, Normalize, ToTensor

        whole = open_clip.image_transform(
            self.size,
            is_train=False,
            mean=self.mean,
            std=self.std,
            resize_mode=self.resize,
            interpolation=self.interpolation,
            fill_color=self.fill,
        )
        *before, to_tensor, normalise = whole.transforms
        usual = isinstance(to_tensor, ToTensor) and type(normalise) is Normalize
        return Compose(before), None if usual else Compose([to_tensor, normalise])

    def _normalised(self, image: Image.Image) -> Tensor:
        """What torchvision's ToTensor and Normalize give, bit for bit, in NumPy.

        Each of torch's operations would take all cores, beside other threads that decode as well.
        """
        pixels = np.asarray(image)  # (H, W, 3) uint8
        found = np.empty((3, *pixels.shape[:2]), dtype=np.float32)
        for channel, (mean, std) in enumerate(zip(self.mean, self.std, strict=True)):
            plane = found[channel]
            plane[...] = pixels[:, :, channel]
            plane /= np.float32(255)
            plane -= np.float32(mean)
            plane /= np.float32(std)
        return torch.from_numpy(found)

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
        return self._normalised(resized)
