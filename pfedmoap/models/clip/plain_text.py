"""The plain prompt encoder: every class's full prompt through the model's own text tower.

Works for any text tower (class-specific contexts, any class position, non-causal or Hugging Face
towers, CoCa), because it runs the library's own ``encode_text`` and only replaces what the token
embedding returns. It is also the reference that the shared-prefix encoder is tested against.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pfedmoap.errors import BackboneError, ShapeError
from pfedmoap.models.clip.tokens import PromptTokens
from pfedmoap.models.memory import ActivationBound


def token_embedding(model: nn.Module) -> nn.Module:
    """Find the module that embeds a text tower's tokens.

    Raises:
        BackboneError: The model has no text tower of a known form.
    """
    for tower in (model, getattr(model, "text", None)):
        found = getattr(tower, "token_embedding", None)
        if isinstance(found, nn.Module):
            return found
    transformer: Any = getattr(getattr(model, "text", None), "transformer", None)
    if hasattr(transformer, "get_input_embeddings"):
        embedding: nn.Module = transformer.get_input_embeddings()
        return embedding
    raise BackboneError(
        f"{type(model).__name__} has no token embedding to put a prompt into; "
        "prompt learning needs a text tower over token embeddings"
    )


@contextmanager
def _embedding_replaced(module: nn.Module, embedded: Tensor) -> Iterator[None]:
    handle = module.register_forward_hook(lambda *_: embedded)
    try:
        yield
    finally:
        handle.remove()


class PlainPromptEncoder(nn.Module):
    """Encode prompts row by row: E x C full-length sequences.

    Args:
        model: An open_clip model with ``encode_text``.
        tokens: The layout of the prompts.
        bound: What the backward pass may keep; rows beyond are computed again there.
    """

    def __init__(self, model: nn.Module, tokens: PromptTokens, bound: ActivationBound) -> None:
        super().__init__()
        self._model = [model]  # in a list: the frozen model is not part of this module's state
        embedding = token_embedding(model)
        self._embedding = [embedding]
        device = next(embedding.parameters()).device
        self._ids = tokens.ids.to(device)
        self._slots = tokens.slots.to(device)
        with torch.no_grad():
            self._embedded = embedding(self._ids)  # (C, T, W)
        layers = sum(1 for m in model.modules() if isinstance(m, nn.MultiheadAttention)) or 12
        self._row_bytes = 16 * layers * self._embedded[0].numel() * self._embedded.element_size()
        self.bound = bound

    def forward(self, contexts: Tensor) -> Tensor:
        """Encode contexts into class features.

        Args:
            contexts: Shared by all classes (E, L, W), or class-specific (E, C, L, W).

        Returns:
            Unit-norm float32 features, (E, C, D).

        Raises:
            ShapeError: The contexts do not fit the layout.
        """
        classes, length = self._slots.shape
        width = self._embedded.shape[-1]
        if contexts.shape[-2:] != (length, width) or contexts.dim() not in (3, 4):
            raise ShapeError(
                f"contexts have shape {tuple(contexts.shape)}, expected (E, {length}, {width}) or "
                f"(E, {classes}, {length}, {width})"
            )
        experts = contexts.shape[0]
        if contexts.dim() == 3:
            contexts = contexts.unsqueeze(1).expand(-1, classes, -1, -1)
        index = self._slots[None, :, :, None].expand(experts, -1, -1, width)
        embedded = self._embedded.expand(experts, -1, -1, -1)
        embedded = embedded.scatter(2, index, contexts.to(embedded.dtype)).flatten(0, 1)
        ids = self._ids.expand(experts, -1, -1).flatten(0, 1)
        size, keeper = self.bound.units(len(ids), self._row_bytes), self.bound.keeper()
        pieces = [
            keeper.run(self._encode, len(rows) * self._row_bytes, rows, own)
            for rows, own in zip(ids.split(size), embedded.split(size), strict=True)
        ]
        return torch.cat(pieces).view(experts, classes, -1)

    def _encode(self, ids: Tensor, embedded: Tensor) -> Tensor:
        with _embedding_replaced(self._embedding[0], embedded):
            features: Tensor = self._model[0].encode_text(ids)  # type: ignore[operator]  # open_clip
        return F.normalize(features.float(), dim=-1)
