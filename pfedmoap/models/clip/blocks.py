"""The steps of a pre-norm residual attention block, for partial forward passes."""

from typing import Any, cast

from torch import Tensor, nn
from torch.nn import functional as F

from pfedmoap.models.clip.packed import PackedAttention, PackedBlock


def is_plain_block(block: nn.Module) -> bool:
    """Whether a block has open_clip's usual form, the only one supported here."""
    attention = getattr(block, "attn", None)
    return (
        isinstance(attention, nn.MultiheadAttention)
        and attention.in_proj_weight is not None
        and attention.bias_k is None
        and not attention.add_zero_attn
        and all(hasattr(block, part) for part in ("ln_1", "ls_1", "ln_2", "mlp", "ls_2"))
    )


def split_heads(block: nn.Module | PackedBlock, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Normalise and project (E, N, W) to scaled queries, keys and values (E, H, N, d)."""
    attention = cast(nn.MultiheadAttention | PackedAttention, block.attn)
    normed = cast(nn.Module, block.ln_1)(x)
    if isinstance(attention, PackedAttention):
        projected = attention.in_proj(normed)
    else:
        projected = F.linear(normed, attention.in_proj_weight, attention.in_proj_bias)
    heads = attention.num_heads
    query, key, value = (
        part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in projected.chunk(3, dim=-1)
    )
    return query * query.shape[-1] ** -0.5, key, value


def merge_heads(x: Tensor) -> Tensor:
    """Join heads: (E, H, N, d) -> (E, N, W)."""
    return x.transpose(1, 2).flatten(2)


def after_attention(block: Any, x: Tensor, attended: Tensor) -> Tensor:
    """Finish a block: output projection, residual, MLP; (E, N, W) both."""
    x = x + block.ls_1(block.attn.out_proj(attended))
    output: Tensor = x + block.ls_2(block.mlp(block.ln_2(x)))
    return output
