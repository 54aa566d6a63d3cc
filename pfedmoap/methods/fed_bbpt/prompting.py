"""Prompts learned through a black box: flat parameters that turn images into queries."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from pfedmoap.contract.tasks import Setting
from pfedmoap.methods.fed_bbpt.prompt_generator import Normalisation, PromptGenerator
from pfedmoap.methods.fed_bbpt.random_encoder import RandomEncoder
from pfedmoap.models.blackbox.interface import Question, TextPrompt
from pfedmoap.models.clip.preprocessing import Preprocessing
from pfedmoap.prompts.initial import initial_context

Asking = Callable[[Tensor], Question]
"""From parameters (G,) to a question about images that are already fixed."""


class Prompting(Protocol):
    """One way to prompt a model."""

    @property
    def name(self) -> str:
        """Name of the uploaded array of parameters."""
        ...

    @property
    def parameters(self) -> int:
        """Number G of parameters."""
        ...

    def initial(self) -> Tensor:
        """Initial parameters of all clients, (G,) float32."""
        ...

    def about(self, images: Tensor) -> Asking:
        """Return a function from parameters to a query about preprocessed images, (B, 3, S, S)."""
        ...


@dataclass(frozen=True)
class ImagePrompting:
    """Add a generated prompt to each image; the texts are hand-written and fixed.

    ``clip(x + strength * prompt)``, clipped per channel to what pixels in [0, 1] become.

    Attributes:
        generator: Makes the prompts.
        preprocessing: The model's, which says what range is valid.
        text: The fixed text side.
        strength: eps_p.
    """

    generator: PromptGenerator
    preprocessing: Preprocessing
    text: TextPrompt
    strength: float = 1.0

    @classmethod
    def make(
        cls, setting: Setting, width: int, normalisation: Normalisation, strength: float
    ) -> "ImagePrompting":
        """Prompt the images of a task; see `PromptGenerator` for width and normalisation."""
        preprocessing = setting.backbone.preprocessing
        return cls(
            PromptGenerator(preprocessing.size, width, normalisation, setting.seed),
            preprocessing,
            TextPrompt(setting.class_names, setting.templates),
            strength,
        )

    @property
    def name(self) -> str:
        """The name of the generator's parameters."""
        return "generator"

    @property
    def parameters(self) -> int:
        """The generator's size."""
        return self.generator.parameters

    def initial(self) -> Tensor:
        """See `PromptGenerator.initial`."""
        return self.generator.initial()

    def about(self, images: Tensor) -> Asking:
        """Make queries; the features of the images are computed once. See `Prompting.about`."""
        features = self._encoder(images)
        low, high = (bound.to(images) for bound in self._range)

        def ask(parameters: Tensor) -> Question:
            prompt = self.generator(parameters, features)
            shown = torch.clamp(images + self.strength * prompt, low, high)
            return Question(shown, self.text)

        return ask

    @cached_property
    def _encoder(self) -> RandomEncoder:
        return RandomEncoder(self.generator.feature_size, self.generator.seed)

    @cached_property
    def _range(self) -> tuple[Tensor, Tensor]:
        mean, std = (
            torch.tensor(values)[:, None, None]
            for values in (self.preprocessing.mean, self.preprocessing.std)
        )
        return (0 - mean) / std, (1 - mean) / std


@dataclass(frozen=True)
class TextPrompting:
    """Learn the context vectors of a text prompt; the images are sent unchanged.

    Attributes:
        class_names: In label order.
        start: Initial context, (L, W) float32.
    """

    class_names: tuple[str, ...]
    start: Tensor

    @classmethod
    def make(cls, setting: Setting, length: int, words: str | None) -> "TextPrompting":
        """Prompt the classes of a task, from words or a random context of some length."""
        start = initial_context(setting.backbone, length, words, seed=setting.seed)
        return cls(setting.class_names, start.cpu())

    @property
    def name(self) -> str:
        """The name of the context's parameters."""
        return "context"

    @property
    def parameters(self) -> int:
        """L times W."""
        return self.start.numel()

    def initial(self) -> Tensor:
        """The start, flat."""
        return self.start.flatten().clone()

    def about(self, images: Tensor) -> Asking:
        """Make queries; see `Prompting.about`."""
        shape = self.start.shape
        return lambda parameters: Question(
            images, TextPrompt(self.class_names, context=parameters.view(shape))
        )
