"""Initial context vectors of a prompt."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pfedmoap.contract.tasks import Setting
from pfedmoap.errors import ConfigError
from pfedmoap.models.clip.clip import FrozenCLIP
from pfedmoap.models.clip.tokens import ClassPosition, prompt_tokens
from pfedmoap.seeding import generator


def check_context(
    setting: Setting,
    kinds: Sequence[str],
    length: int,
    words: str | None = None,
    class_position: ClassPosition = "end",
) -> None:
    """Refuse a context that has no place, or words of another length, before any work begins.

    Args:
        setting: The task, whose class names stand behind the context.
        kinds: Kinds of features that the method needs.
        length: Number L of context vectors.
        words: Words to start from, if any.
        class_position: Where the class name stands.

    Raises:
        BackboneError: The backbone lacks a kind of feature, or a class name is too long.
        ConfigError: The words do not have ``length`` tokens.
    """
    setting.backbone.require_features(kinds)
    prompt_tokens(setting.backbone.tokenizer, setting.class_names, length, class_position)
    if words is not None:
        initial_context(setting.backbone, length, words, seed=setting.seed)


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
