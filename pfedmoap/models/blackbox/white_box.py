"""The computation of a black-box model: logits for a question, differentiable in its inputs."""

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from pfedmoap.models.blackbox.interface import Question, TextPrompt
from pfedmoap.models.clip.clip import FrozenCLIP, PromptEncoder

REMEMBERED = 8  # tasks whose text features, or whose encoder, are kept


class WhiteBoxModel:
    """Answers questions differentiably: inside the black-box models, and for upper bounds.

    Args:
        backbone: The model.
    """

    def __init__(self, backbone: FrozenCLIP) -> None:
        self._backbone = backbone
        self._template_features = lru_cache(REMEMBERED)(self._encode_templates)
        self._encoder = lru_cache(REMEMBERED)(self._make_encoder)

    def logits(self, question: Question) -> Tensor:
        """Classify, differentiably in the question's images and context; returns (B, C)."""
        image = self._backbone.differentiable_image_features(question.images)
        return self._backbone.logit_scale * image @ self._text(question.text).mT

    def _text(self, text: TextPrompt) -> Tensor:
        """Features of the classes, (C, D)."""
        if text.context is None:
            return self._template_features(text.class_names, text.templates)
        encode = self._encoder(text.class_names, len(text.context))
        return encode(text.context[None].to(self._backbone.device))[0]

    def _encode_templates(self, names: tuple[str, ...], templates: tuple[str, ...]) -> Tensor:
        # `replace`, since the texts are untrusted input, and `format` reads attributes
        encoded = [
            self._backbone.text_features([template.replace("{}", name) for name in names])
            for template in templates
        ]
        return F.normalize(torch.stack(encoded).sum(0), dim=-1)

    def _make_encoder(self, names: tuple[str, ...], length: int) -> PromptEncoder:
        return self._backbone.prompt_encoder(names, length)
