"""Initial context vectors of a prompt."""

import torch
from torch import Tensor

from pfedmoap.errors import ConfigError
from pfedmoap.models.clip.clip import FrozenCLIP
from pfedmoap.seeding import generator


def initial_context(
    backbone: FrozenCLIP, length: int, words: str | None = None, *, seed: int
) -> Tensor:
    """Make the context that all clients start from (CoOp, arXiv 2109.01134, section 3.2).

    Args:
        backbone: The model whose text tower the context goes into.
        length: Number L of context vectors.
        words: Start from the embeddings of these words, e.g. ``a photo of a``; they must have L
            tokens. ``None`` draws from N(0, 0.02^2).
        seed: Seed of the random draw.

    Returns:
        The context, (L, W) float32 on the backbone's device.

    Raises:
        ConfigError: The words do not have ``length`` tokens.
    """
    if words is None:
        stream = generator(seed, "initial context")
        context = 0.02 * torch.randn(length, backbone.text_width, generator=stream)
        return context.to(backbone.device)
    context = backbone.embed_words(words)
    if len(context) != length:
        raise ConfigError(
            f"the words {words!r} have {len(context)} tokens but the context length is {length}; "
            f"set the context length to {len(context)} or choose other words"
        )
    return context
