"""CLIP's logits and their cross-entropy."""

from torch import Tensor
from torch.nn import functional as F


def cosine_logits(image: Tensor, text: Tensor, scale: float) -> Tensor:
    """CLIP's logits ``s <I, T(c)>`` for unit-norm features.

    Args:
        image: (..., B, D).
        text: (..., C, D).
        scale: The model's logit scale s.

    Returns:
        (..., B, C).
    """
    return scale * image @ text.mT


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of each example over all classes: (..., C) and (...) to (...)."""
    return F.cross_entropy(logits.flatten(0, -2), labels.flatten(), reduction="none").view(
        labels.shape
    )
