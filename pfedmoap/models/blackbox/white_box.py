"""The computation of a black-box model: logits for a question, differentiable in its inputs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from pfedmoap.models.blackbox.interface import Question, TextPrompt
from pfedmoap.models.clip.clip import FrozenCLIP, PromptEncoder

REMEMBERED = 8  # tasks whose text features are kept
REMEMBERED_ENCODERS = 32
IMAGES_IN_SLICE = 32
TEXTS_IN_SLICE = 64

T = TypeVar("T")
Proceed = Callable[[], None]


@dataclass(frozen=True)
class _Texts:
    """What text features are remembered by: the texts, and not who waits for them."""

    names: tuple[str, ...]
    templates: tuple[str, ...]
    proceed: Proceed | None = field(compare=False)


class WhiteBoxModel:
    """Answers questions differentiably: inside the black-box models, and for upper bounds.

    Args:
        backbone: The model.
    """

    def __init__(self, backbone: FrozenCLIP) -> None:
        self._backbone = backbone
        self._template_features = lru_cache(REMEMBERED)(self._encode_templates)
        self._encoder = lru_cache(REMEMBERED_ENCODERS)(self._make_encoder)

    def logits(self, question: Question, proceed: Proceed | None = None) -> Tensor:
        """Classify, differentiably in the question's images and context.

        Args:
            question: The question.
            proceed: Called before each slice of the work, and may raise; none works in one piece.

        Returns:
            The logits, (B, C).
        """
        encode = self._backbone.differentiable_image_features
        parts = question.images.split(len(question.images) if proceed is None else IMAGES_IN_SLICE)
        encoded = []
        for part in parts:
            _ask(proceed)
            encoded.append(encode(part))
        image = encoded[0] if len(encoded) == 1 else torch.cat(encoded)
        return self._backbone.logit_scale * image @ self._text(question.text, proceed).mT

    def _text(self, text: TextPrompt, proceed: Proceed | None) -> Tensor:
        """Features of the classes, (C, D)."""
        if text.context is None:
            return self._template_features(_Texts(text.class_names, text.templates, proceed))
        context = text.context[None].to(self._backbone.device)
        encoded = []
        for names in _slices(text.class_names, proceed):
            _ask(proceed)
            encoded.append(self._encoder(tuple(names), len(text.context))(context)[0])
        return encoded[0] if len(encoded) == 1 else torch.cat(encoded)

    def _encode_templates(self, texts: _Texts) -> Tensor:
        # `replace`, since the texts are untrusted input, and `format` reads attributes
        encoded = []
        for template in texts.templates:
            sentences = [template.replace("{}", name) for name in texts.names]
            parts = []
            for part in _slices(sentences, texts.proceed):
                _ask(texts.proceed)
                parts.append(self._backbone.text_features(part))
            encoded.append(parts[0] if len(parts) == 1 else torch.cat(parts))
        return F.normalize(torch.stack(encoded).sum(0), dim=-1)

    def _make_encoder(self, names: tuple[str, ...], length: int) -> PromptEncoder:
        return self._backbone.prompt_encoder(names, length)


def _ask(proceed: Proceed | None) -> None:
    if proceed is not None:
        proceed()


def _slices(items: Sequence[T], proceed: Proceed | None) -> list[Sequence[T]]:
    size = len(items) if proceed is None else TEXTS_IN_SLICE
    return [items[start : start + size] for start in range(0, len(items), size)]
