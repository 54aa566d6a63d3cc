"""Shared-prefix prompt encoding: what all classes have in common is computed once.

CLIP's text tower is causal, so the hidden states of ``[SOS, ctx_1 .. ctx_L]`` do not depend on the
class name that follows. One pass over this prefix gives every layer's keys and values; each class
then costs only its few own tokens, and nothing after its end token is computed at all. The result
equals the plain full-length encoding in values and gradients; for 10 classes it processes about 13
times fewer tokens.
"""

from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pfedmoap.errors import ShapeError
from pfedmoap.models.clip.blocks import after_attention, is_plain_block, merge_heads, split_heads
from pfedmoap.models.clip.half_precision import computes_in
from pfedmoap.models.clip.packed import PackedBlock, packed_blocks
from pfedmoap.models.clip.tokens import PromptTokens
from pfedmoap.models.memory import ActivationBound

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

    @cached_property
    def run_blocks(self) -> tuple[nn.Module | PackedBlock, ...]:
        """The blocks as they are run where they stay frozen."""
        return packed_blocks(self.blocks)


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
class _Block:
    """Classes that go through the tower as one dense block.

    Attributes:
        suffix: Embedded own tokens with positions, (c, S, W).
        ends: Where each class's end token stands, (c,), with padding behind it; ``None`` where
            all have S tokens, and nothing is padded.
    """

    suffix: Tensor
    ends: Tensor | None = None


_ALWAYS, _SMALL, _SMALL_TOKENS = 1.15, 1.6, 512


def padding_pays(device: torch.device, tokens: int, padded: int) -> bool:
    """Whether classes of unequal length are faster as one padded block than as one a length.

    Measured on an H200, with ViT-B/16, 2 or 3 lengths and 8 or 9 % of padding, inside captured
    steps: one block takes .66 of the time at 460 tokens (10 clients, 10 classes), .70 at 50,000
    and .94 at 9,200, where arithmetic decides most. So it still pays with 15 % of padding where it
    gains least, and with 60 % where launches decide. On a CPU it gains 5 % at best, and another
    order of sums would change every result's last digits.

    Args:
        device: Where the tower is.
        tokens: Own tokens of all classes and contexts.
        padded: The same with padding.
    """
    if device.type == "cpu":
        return False
    return padded <= (_SMALL if tokens <= _SMALL_TOKENS else _ALWAYS) * tokens


class SharedPrefixEncoder(nn.Module):
    """Encode E contexts for C classes with one pass over each context.

    Args:
        tower: The causal text tower.
        tokens: The layout of the prompts, with the context directly after the start token.
        bound: What the backward pass may keep; classes beyond are computed again there.
        one_block: Whether classes of unequal length are padded to one block; ``None`` decides by
            `padding_pays`.
    """

    def __init__(
        self,
        tower: TextTower,
        tokens: PromptTokens,
        bound: ActivationBound,
        one_block: bool | None = None,
    ) -> None:
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
        self._buckets, order = [], []
        for length in own.unique().tolist():
            classes = (own == length).nonzero().flatten()
            suffix = embedded[classes.to(device), prefix : prefix + length]
            self._buckets.append(_Block(suffix))
            order.append(classes)
        self._to_label_order = torch.cat(order).argsort().to(device)
        longest = int(own.max())
        self._all = _Block(embedded[:, prefix : prefix + longest], (own - 1).to(device))
        self._own_tokens, self._padded_tokens = int(own.sum()), longest * len(own)
        self._one_block = one_block
        self._token_bytes = 16 * len(tower.blocks) * embedded.shape[-1] * embedded.element_size()
        self.bound = bound

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
        flat = [tensor for pair in self._prefix_cache(contexts) for tensor in pair]
        one, count = self._one_block, len(contexts)
        if one is None:
            own, padded = count * self._own_tokens, count * self._padded_tokens
            one = padding_pays(contexts.device, own, padded)
        blocks = [self._all] if one else self._buckets
        token_bytes = len(contexts) * self._token_bytes
        tokens = sum(block.suffix[..., 0].numel() for block in blocks)
        per_piece = self.bound.units(tokens, token_bytes)
        prefix = self._start.shape[0] + self.context_length
        keeper = self.bound.keeper(prefix * token_bytes)
        features = []
        for block in blocks:
            classes, length = block.suffix.shape[:2]
            step = classes if per_piece == tokens else max(1, per_piece // length)
            ends = (None,) * classes if block.ends is None else block.ends.split(step)
            for suffix, end in zip(block.suffix.split(step), ends, strict=False):
                run = partial(self._encode_flat, end)
                size = suffix[..., 0].numel() * token_bytes
                features.append(keeper.run(run, size, suffix, *flat))
        together = torch.cat(features, dim=1)
        return together if one else together[:, self._to_label_order]

    def _prefix_cache(self, contexts: Tensor) -> list[KeysValues]:
        """Run the prefix through the tower once; returns each layer's keys and values."""
        tower = self._tower[0]
        start = self._start.expand(len(contexts), -1, -1)
        x = torch.cat([start, contexts.to(start.dtype) + self._context_positions], dim=1)
        cache = []
        for layer, block in enumerate(tower.run_blocks):
            query, key, value = split_heads(block, x)  # (E, H, P, d)
            cache.append((key, value))
            if layer == len(tower.blocks) - 1:
                break  # the prefix's own output is not needed
            length = x.shape[1]
            future = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1)
            weights = (query @ key.mT).masked_fill(future, float("-inf")).softmax(-1)
            x = after_attention(block, x, merge_heads(weights @ value))
        return cache

    def _encode_flat(self, ends: Tensor | None, suffix: Tensor, *flat: Tensor) -> Tensor:
        return self.encode_suffix(suffix, list(zip(flat[::2], flat[1::2], strict=True)), ends)

    def encode_suffix(
        self, suffix: Tensor, cache: list[KeysValues], ends: Tensor | None = None
    ) -> Tensor:
        """Run some classes' own tokens on top of the cached prefix.

        Args:
            suffix: Embedded own tokens of c class names, (c, S, W).
            cache: Each layer's prefix keys and values.
            ends: Where their end tokens stand, (c,); ``None`` for the last of S. What stands
                behind an end token is not seen by it, since attention is causal.

        Returns:
            Unit-norm features, (E, c, D).
        """
        tower = self._tower[0]
        experts = cache[0][0].shape[0]
        classes, length, width = suffix.shape
        future = torch.ones(length, length, dtype=torch.bool, device=suffix.device).triu(1)
        x = suffix.reshape(1, classes * length, width).expand(experts, -1, -1)
        for layer, block in enumerate(tower.run_blocks):
            last = layer == len(tower.blocks) - 1
            query, key, value = (
                tensor.unflatten(2, (classes, length)) for tensor in split_heads(block, x)
            )  # (E, H, c, S, d)
            if last:  # only the end token's output is read
                x = x.unflatten(1, (classes, length))
                if ends is None:
                    query, future, x = query[:, :, :, -1:], future[-1:], x[:, :, -1]
                else:
                    at = ends.view(-1, 1, 1)
                    query = query.gather(3, at.expand(*query.shape[:3], 1, query.shape[4]))
                    x = x.gather(2, at.expand(experts, -1, 1, width)).squeeze(2)
                    future = future[ends].unsqueeze(1)
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
