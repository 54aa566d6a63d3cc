"""Shared-prefix prompt encoding: what all classes have in common is computed once.

CLIP's text tower is causal, so the hidden states of ``[SOS, ctx_1 .. ctx_L]`` do not depend on the
class name that follows. One pass over this prefix gives every layer's keys and values; each class
then costs only its few own tokens, and nothing after its end token is computed at all. The result
equals the plain full-length encoding in values and gradients; for 10 classes it processes about 13
times fewer tokens.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from pfedmoap.errors import ShapeError
from pfedmoap.models.clip.blocks import after_attention, is_plain_block, merge_heads, split_heads
from pfedmoap.models.clip.half_precision import computes_in
from pfedmoap.models.clip.tokens import PromptTokens

KeysValues = tuple[Tensor, Tensor]  # each (E, H, P, W / H)


@dataclass(frozen=True)
class TextTower:
    """The parts of a causal text tower that the encoder uses.

    Attributes:
        embedding: Token embedding.
        positions: Positional embedding, (T, W).
        blocks: Pre-norm residual attention blocks.
        final_norm: Normalisation before the projection.
        projection: (W, D) matrix, a linear layer, or ``None``.
    """

    embedding: nn.Module
    positions: Tensor
    blocks: tuple[nn.Module, ...]
    final_norm: nn.Module
    projection: Tensor | nn.Linear | None


def shareable_tower(model: nn.Module) -> TextTower | str:
    """Decide from a model's structure, not its name, whether the prefix can be shared.

    Args:
        model: An open_clip model.

    Returns:
        The tower's parts, or the reason why the plain encoding must be used.
    """
    tower: Any = model if hasattr(model, "token_embedding") else getattr(model, "text", None)
    if tower is None or not hasattr(tower, "token_embedding"):
        return "the text tower is not open_clip's own transformer"
    if getattr(tower, "cls_emb", None) is not None:
        return "the text tower appends a class token that sees the padding"
    mask = getattr(tower, "attn_mask", None)
    if mask is None:
        return "attention is not causal: the context sees the class name"
    causal = torch.full_like(mask, float("-inf")).triu(1)
    if not torch.equal(mask, causal):
        return "the attention mask is not the plain causal one"
    pool = getattr(tower, "text_pool_type", None) or getattr(tower, "pool_type", None)
    if pool not in ("argmax", "eos"):
        return f"text is pooled by {pool!r}, not at the end token"
    blocks = tuple(tower.transformer.resblocks)
    if not all(is_plain_block(block) for block in blocks):
        return "the transformer blocks have a custom form"
    return TextTower(
        embedding=tower.token_embedding,
        positions=tower.positional_embedding,
        blocks=blocks,
        final_norm=tower.ln_final,
        projection=tower.text_projection,
    )


@dataclass(frozen=True)
class _Bucket:
    """Classes whose own tokens are equally many, so that no padding is needed.

    Attributes:
        classes: Their labels, (C_b,).
        suffix: Embedded own tokens with positions, (C_b, S_b, W).
    """

    classes: Tensor
    suffix: Tensor


class SharedPrefixEncoder(nn.Module):
    """Encode E contexts for C classes with one pass over each context.

    Args:
        tower: The causal text tower.
        tokens: The layout of the prompts, with the context directly after the start token.
        memory_bytes: Bound on the activations kept for the backward pass; beyond it, classes are
            encoded in chunks and recomputed in the backward pass.
    """

    def __init__(self, tower: TextTower, tokens: PromptTokens, memory_bytes: int) -> None:
        super().__init__()
        self._tower = [tower]  # in a list: frozen weights are not part of this module's state
        device = tower.positions.device
        self.context_length = tokens.slots.shape[1]
        prefix = tokens.start + self.context_length
        # In half precision open_clip keeps embeddings in float32, and casts them for the blocks.
        dtype = computes_in(tower.blocks[0])
        positions = tower.positions.detach().to(dtype)
        with torch.no_grad():
            embedded = tower.embedding(tokens.ids.to(device)).to(dtype) + positions
        self._start = embedded[0, : tokens.start]  # (1, W)
        self._context_positions = positions[tokens.start : prefix]
        own = tokens.lengths - prefix
        self._buckets = []
        for length in own.unique().tolist():
            classes = (own == length).nonzero().flatten()
            suffix = embedded[classes.to(device), prefix : prefix + length]
            self._buckets.append(_Bucket(classes, suffix))
        order = torch.cat([bucket.classes for bucket in self._buckets])
        self._to_label_order = order.argsort().to(device)
        token_bytes = 16 * len(tower.blocks) * embedded.shape[-1] * embedded.element_size()
        self._tokens_per_chunk = max(1, memory_bytes // token_bytes)

    def forward(self, contexts: Tensor) -> Tensor:
        """Encode contexts into class features.

        Args:
            contexts: Contexts shared by all classes, (E, L, W), of any floating dtype.

        Returns:
            Unit-norm float32 features in label order, (E, C, D).

        Raises:
            ShapeError: The contexts do not fit the layout.
        """
        width = self._start.shape[-1]
        if contexts.dim() != 3 or contexts.shape[1:] != (self.context_length, width):
            raise ShapeError(
                f"contexts have shape {tuple(contexts.shape)}, "
                f"expected (E, {self.context_length}, {width})"
            )
        cache = self._prefix_cache(contexts)
        features = []
        total = sum(bucket.suffix[..., 0].numel() for bucket in self._buckets) * len(contexts)
        chunked = total > self._tokens_per_chunk
        for bucket in self._buckets:
            per_class = len(contexts) * bucket.suffix.shape[1]
            step = max(1, self._tokens_per_chunk // per_class) if chunked else len(bucket.classes)
            for suffix in bucket.suffix.split(step):
                if chunked and torch.is_grad_enabled():
                    flat = [tensor for pair in cache for tensor in pair]
                    part = checkpoint(self._encode_flat, suffix, *flat, use_reentrant=False)
                else:
                    part = self.encode_suffix(suffix, cache)
                features.append(part)
        return torch.cat(features, dim=1)[:, self._to_label_order]

    def _prefix_cache(self, contexts: Tensor) -> list[KeysValues]:
        """Run the prefix through the tower once; returns each layer's keys and values."""
        tower = self._tower[0]
        start = self._start.expand(len(contexts), -1, -1)
        x = torch.cat([start, contexts.to(start.dtype) + self._context_positions], dim=1)
        cache = []
        for layer, block in enumerate(tower.blocks):
            query, key, value = split_heads(block, x)  # (E, H, P, d)
            cache.append((key, value))
            if layer == len(tower.blocks) - 1:
                break  # the prefix's own output is not needed
            length = x.shape[1]
            future = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1)
            weights = (query @ key.mT).masked_fill(future, float("-inf")).softmax(-1)
            x = after_attention(block, x, merge_heads(weights @ value))
        return cache

    def _encode_flat(self, suffix: Tensor, *flat: Tensor) -> Tensor:
        return self.encode_suffix(suffix, list(zip(flat[::2], flat[1::2], strict=True)))

    def encode_suffix(self, suffix: Tensor, cache: list[KeysValues]) -> Tensor:
        """Run some classes' own tokens on top of the cached prefix.

        Args:
            suffix: Embedded own tokens of c equally long class names, (c, S, W).
            cache: Each layer's prefix keys and values.

        Returns:
            Unit-norm features, (E, c, D).
        """
        tower = self._tower[0]
        experts = cache[0][0].shape[0]
        classes, length, width = suffix.shape
        future = torch.ones(length, length, dtype=torch.bool, device=suffix.device).triu(1)
        x = suffix.reshape(1, classes * length, width).expand(experts, -1, -1)
        for layer, block in enumerate(tower.blocks):
            last = layer == len(tower.blocks) - 1
            query, key, value = (
                tensor.unflatten(2, (classes, length)) for tensor in split_heads(block, x)
            )  # (E, H, c, S, d)
            if last:  # only the end token's output is read
                query, future = query[:, :, :, -1:], future[-1:]
                x = x.unflatten(1, (classes, length))[:, :, -1]
            prefix_key, prefix_value = cache[layer]
            to_prefix = query.flatten(2, 3) @ prefix_key.mT  # (E, H, c S, P)
            to_own = (query @ key.mT).masked_fill(future, float("-inf")).flatten(2, 3)
            weights = torch.cat([to_prefix, to_own], dim=-1).softmax(-1)
            on_prefix, on_own = weights.split([prefix_key.shape[2], length], dim=-1)
            own = on_own.unflatten(2, (classes, -1)) @ value
            mixed = on_prefix @ prefix_value + own.flatten(2, 3)
            x = after_attention(block, x, merge_heads(mixed))
        x = tower.final_norm(x)
        if isinstance(tower.projection, nn.Linear):
            x = tower.projection(x)
        elif tower.projection is not None:
            x = x @ tower.projection
        return F.normalize(x.float(), dim=-1)
