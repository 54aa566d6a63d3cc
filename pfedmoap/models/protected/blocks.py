"""Transformer blocks as functions of named weights, with a prefix of keys and values in each layer.

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

from pfedmoap.wire.messages import Arrays


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
    """Read the form of an open_clip block; see `pfedmoap.models.clip.blocks.is_plain_block`."""
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
    *,
    common: Tensor | None = None,
    read: Tensor | None = None,
) -> Tensor:
    """Run blocks on sequences of tokens.

    Args:
        x: Tokens of N sequences of K clients, (K, N, S, W).
        blocks: Weights of each layer, by the names of `block_weights`, either the same for all
            clients or with a leading axis of K.
        form: What the blocks have in common.
        prefixes: Keys and values before each layer's own, each (K, 2, p, W) or none.
        common: Tokens that all N sequences begin with, (K, 1, c, W), where they are not part of
            ``x``: under a causal mask they are the same whatever follows, and are run once.
        read: The one token of each sequence that is read, (N,): the last layer leaves the others.

    Returns:
        Tokens, (K, N, S, W), or (K, N, 1, W) where one is read.
    """
    last = len(blocks) - 1
    pairs = zip(blocks, prefixes or [None] * len(blocks), strict=True)
    for layer, (weights, prefix) in enumerate(pairs):
        before = [] if prefix is None else [_prefix_heads(prefix.to(x.dtype), form)]
        own = _heads(x, weights, form)
        if common is not None:
            shared = _heads(common, weights, form)
            if layer < last:
                common = _finish(common, _attend(shared, before, form), weights, form)
            before = [*before, shared[1:]]
        chosen = read if layer == last else None
        attended = _attend(own, before, form, chosen)
        x = _finish(x if chosen is None else _only(x, chosen), attended, weights, form)
    return x


def normalise(x: Tensor, gain: Tensor, bias: Tensor, epsilon: float) -> Tensor:
    """Layer norm of (K, ..., W) with a gain and bias (W,), or (K, W) for each client its own.

    Computed in the gain's dtype and returned in that of ``x``: half towers keep norms in float32.
    """
    normed = F.layer_norm(x.to(gain.dtype), x.shape[-1:], eps=epsilon)
    if gain.dim() == 2:
        shape = (len(gain), *[1] * (x.dim() - 2), -1)
        gain, bias = gain.view(shape), bias.view(shape)
    return (normed * gain + bias).to(x.dtype)


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


def _heads(x: Tensor, weights: Arrays, form: BlockForm) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, scaled, keys and values of (K, N, S, W), each (K, N, H, S, d)."""
    normed = _norm(x, weights, "ln_1", form)
    projected = project(normed, weights["attn.in_proj_weight"], weights["attn.in_proj_bias"])
    query, key, value = (
        part.unflatten(-1, (form.heads, -1)).transpose(2, 3) for part in projected.chunk(3, dim=-1)
    )
    return query * query.shape[-1] ** -0.5, key, value


def _prefix_heads(prefix: Tensor, form: BlockForm) -> tuple[Tensor, Tensor]:
    """Keys and values (K, 2, p, W) of all sequences alike, each (K, 1, H, p, d)."""
    split = prefix.unflatten(-1, (form.heads, -1)).transpose(2, 3)[:, :, None]
    return split[:, 0], split[:, 1]


def _attend(
    own: tuple[Tensor, Tensor, Tensor],
    before: Sequence[tuple[Tensor, ...]],
    form: BlockForm,
    read: Tensor | None = None,
) -> Tensor:
    """Attend within each sequence and to all that stands before it; (K, N, S or 1, W).

    Written out: torch's fused kernel has no batching rule, which per-example gradients need. What
    stands before is the same for all sequences, and is not copied for each of them.
    """
    query, key, value = own
    sequences, length = query.shape[1], query.shape[3]
    if read is not None:
        query = query.gather(3, _index(read, query))
    scores = query @ key.mT  # (K, N, H, S, S)
    if form.causal:
        places = torch.arange(length, device=scores.device)
        until = places[None] if read is None else read[:, None]  # (1, S) or (N, 1)
        future = places > until[..., None]  # (1 or N, S or 1, S)
        scores = scores.masked_fill(future[:, None], float("-inf"))
    flat = query.transpose(1, 2).flatten(2, 3)  # (K, H, N S, d)
    outside = [
        (flat @ keys[:, 0].mT).unflatten(2, (sequences, -1)).transpose(1, 2) for keys, _ in before
    ]
    weights = torch.cat([*outside, scores], dim=-1).softmax(-1)
    sizes = [part.shape[-1] for part in outside]
    *seen, inside = weights.split([*sizes, length], dim=-1)
    attended = inside @ value
    for part, (_, values) in zip(seen, before, strict=True):
        mixed = part.transpose(1, 2).flatten(2, 3) @ values[:, 0]
        attended = attended + mixed.unflatten(2, (sequences, -1)).transpose(1, 2)
    merged: Tensor = attended.transpose(2, 3).flatten(3)
    return merged


def _finish(x: Tensor, attended: Tensor, weights: Arrays, form: BlockForm) -> Tensor:
    """Output projection, residual, MLP."""
    x = x + _scaled(_linear(attended, weights, "attn.out_proj"), weights, "ls_1.gamma")
    hidden = form.activation(_linear(_norm(x, weights, "ln_2", form), weights, "mlp.c_fc"))
    return x + _scaled(_linear(hidden, weights, "mlp.c_proj"), weights, "ls_2.gamma")


def _only(x: Tensor, read: Tensor) -> Tensor:
    """One token of each sequence: (K, N, S, W) to (K, N, 1, W)."""
    return x.gather(2, read.view(1, -1, 1, 1).expand(len(x), -1, -1, x.shape[-1]))


def _index(read: Tensor, query: Tensor) -> Tensor:
    """The same as an index into (K, N, H, S, d)."""
    clients, _, heads, _, depth = query.shape
    return read.view(1, -1, 1, 1, 1).expand(clients, -1, heads, -1, depth)
