"""Transformer blocks as functions of named weights, with keys and values put before each layer.

One function runs the frozen blocks of the protected model and the auxiliary's, whose weights are
each client's own (a leading axis of K clients). Positions are those of the tokens alone, and every
token sees the whole prefix, whatever the mask says of the tokens behind it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pfedmoap.types import Arrays


@dataclass(frozen=True)
class BlockForm:
    """What blocks have in common beside their weights.

    Attributes:
        heads: Attention heads.
        activation: Of the MLP; it has no weights.
        epsilon: Of the layer norms.
        causal: Whether a token sees only itself and those before it.
    """

    heads: int
    activation: Callable[[Tensor], Tensor]
    epsilon: float
    causal: bool


def block_form(block: nn.Module, *, causal: bool) -> BlockForm:
    """Read the form of an open_clip block; see `pfedmoap.backbone.blocks.is_plain_block`."""
    anything: Any = block  # open_clip's blocks have no common type
    activation = next(part for part in anything.mlp.children() if not isinstance(part, nn.Linear))
    return BlockForm(anything.attn.num_heads, activation, anything.ln_1.eps, causal)


def block_weights(block: nn.Module) -> dict[str, Tensor]:
    """Name an open_clip block's weights; the tensors are the block's own."""
    return {name: value.detach() for name, value in block.state_dict(keep_vars=True).items()}


def run_blocks(
    x: Tensor,
    blocks: Sequence[Arrays],
    form: BlockForm,
    prefixes: Sequence[Tensor | None] | None = None,
) -> Tensor:
    """Run blocks on sequences of tokens.

    Args:
        x: Tokens of N sequences of K clients, (K, N, S, W).
        blocks: Weights of each layer, by the names of `block_weights`, either the same for all
            clients or with a leading axis of K.
        form: What the blocks have in common.
        prefixes: Keys and values before each layer's own, each (K, 2, p, W) or none.

    Returns:
        Tokens, (K, N, S, W).
    """
    for weights, before in zip(blocks, prefixes or [None] * len(blocks), strict=True):
        attended = _attention(_norm(x, weights, "ln_1", form), weights, form, before)
        x = x + _scaled(attended, weights, "ls_1.gamma")
        hidden = form.activation(_linear(_norm(x, weights, "ln_2", form), weights, "mlp.c_fc"))
        x = x + _scaled(_linear(hidden, weights, "mlp.c_proj"), weights, "ls_2.gamma")
    return x


def normalise(x: Tensor, gain: Tensor, bias: Tensor, epsilon: float) -> Tensor:
    """Layer norm of (K, ..., W) with a gain and bias (W,), or (K, W) for each client its own."""
    normed = F.layer_norm(x, x.shape[-1:], eps=epsilon)
    if gain.dim() == 2:
        shape = (len(gain), *[1] * (x.dim() - 2), -1)
        gain, bias = gain.view(shape), bias.view(shape)
    return normed * gain + bias


def project(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Linear map of (K, ..., W) with a weight (V, W), or (K, V, W) for each client its own."""
    if weight.dim() == 2:
        return F.linear(x, weight, bias)
    flat = x.flatten(1, -2)
    mapped = flat @ weight.mT if bias is None else torch.baddbmm(bias[:, None], flat, weight.mT)
    return mapped.view(*x.shape[:-1], -1)


def _linear(x: Tensor, weights: Arrays, name: str) -> Tensor:
    return project(x, weights[f"{name}.weight"], weights[f"{name}.bias"])


def _norm(x: Tensor, weights: Arrays, name: str, form: BlockForm) -> Tensor:
    return normalise(x, weights[f"{name}.weight"], weights[f"{name}.bias"], form.epsilon)


def _scaled(x: Tensor, weights: Arrays, name: str) -> Tensor:
    return x * weights[name] if name in weights else x


def _attention(x: Tensor, weights: Arrays, form: BlockForm, before: Tensor | None) -> Tensor:
    """Attend within each sequence, and to the keys and values (K, 2, p, W) before it.

    Written out: torch's fused kernel has no batching rule, which per-example gradients need.
    """
    projected = project(x, weights["attn.in_proj_weight"], weights["attn.in_proj_bias"])
    query, key, value = (
        part.unflatten(-1, (form.heads, -1)).transpose(2, 3) for part in projected.chunk(3, dim=-1)
    )  # (K, N, H, S, d)
    length, places = x.shape[2], 0
    if before is not None:
        places = before.shape[2]
        split = (
            before.to(x.dtype).unflatten(-1, (form.heads, -1)).transpose(2, 3)
        )  # (K, 2, H, p, d)
        split = split[:, :, None].expand(-1, -1, x.shape[1], -1, -1, -1)
        key = torch.cat([split[:, 0], key], dim=3)
        value = torch.cat([split[:, 1], value], dim=3)
    scores = query * query.shape[-1] ** -0.5 @ key.mT  # (K, N, H, S, p + S)
    if form.causal:
        seen = torch.ones(length, places + length, dtype=torch.bool, device=x.device).tril(places)
        scores = scores.masked_fill(~seen, float("-inf"))
    attended = scores.softmax(-1) @ value
    return _linear(attended.transpose(2, 3).flatten(3), weights, "attn.out_proj")
