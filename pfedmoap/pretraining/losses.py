"""The two losses of pretraining: labels of attributes, and image-caption contrast."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pfedmoap.data.scenes.sampling import Attributes
from pfedmoap.data.scenes.vocabulary import CLASSES, COLOURS, COUNTS, POSITIONS, STYLES, TEXTURES

HEADS = {
    "kinds": (1.0, len(CLASSES)),
    "textures": (0.4, len(TEXTURES)),
    "colours": (0.3, len(COLOURS)),
    "styles": (0.1, len(STYLES)),
    "backgrounds": (0.1, len(COLOURS)),
    "positions": (0.1, len(POSITIONS)),
    "counts": (0.1, len(COUNTS)),
}
"""Weight of each attribute in the supervised loss, and its number of values."""

_MISCOLOURED = [STYLES.index(style) for style in ("negative", "swapped", "gray", "sketch")]


def label_loss(
    heads: nn.ModuleDict, features: Tensor, attributes: Attributes
) -> tuple[Tensor, float]:
    """Weighted cross-entropy over all attributes.

    Args:
        heads: A linear classifier for each name in `HEADS`.
        features: Image features (n, D).
        attributes: The scenes; colours count only in styles that keep them.

    Returns:
        The loss (), float32, and the accuracy of the class.
    """
    loss, accuracy = features.new_zeros((), dtype=torch.float32), 0.0
    miscoloured = torch.from_numpy(np.isin(attributes.styles, _MISCOLOURED)).to(features.device)
    for name, (weight, _) in HEADS.items():
        labels = torch.from_numpy(getattr(attributes, name)).to(features.device)
        logits = heads[name](features).float()
        if name in ("colours", "backgrounds"):
            labels = labels.masked_fill(miscoloured, -100)
        total = F.cross_entropy(logits, labels, reduction="sum")
        loss = loss + weight * total / (labels >= 0).sum().clamp(min=1)
        if name == "kinds":
            accuracy = (logits.argmax(-1) == labels).float().mean().item()
    return loss, accuracy


def contrastive_loss(
    image: Tensor, text: Tensor, log_scale: Tensor, tokens: Tensor
) -> tuple[Tensor, float]:
    """CLIP's symmetric loss (arXiv 2103.00020); equal captions share the target.

    Args:
        image: Image features (n, D), any norm.
        text: Text features (n, D), any norm.
        log_scale: Logarithm of the logit scale, ().
        tokens: Token ids of the captions (n, T).

    Returns:
        The loss (), float32, and how often an image finds a caption like its own.
    """
    same = (tokens[:, None] == tokens[None]).all(-1).float()
    targets = same / same.sum(-1, keepdim=True)
    image, text = F.normalize(image.float(), dim=-1), F.normalize(text.float(), dim=-1)
    logits = log_scale.float().exp() * image @ text.T
    loss = (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2
    hits = targets.gather(1, logits.argmax(-1, keepdim=True)) > 0
    return loss, hits.float().mean().item()
