"""What open_clip's half precision forgets, so that every architecture runs in it.

``open_clip.create_model(precision="bf16")`` converts the matrices of its own towers one kind of
layer at a time and leaves the rest in float32. Four kinds are missed, and a matrix product then
meets two dtypes: a pooler's learned queries and a text tower's class token (both CoCa's), the
scales of residual branches, and a text tower of transformers beside an image tower that is not
timm's.

And it adds up the residual stream of a ViT in half precision, which is where most of its error
comes from: with ViT-B/16 in bfloat16 an image feature is off by .0095 of its length with it, by
.0047 with a stream in float32, and by .0023 from rounded weights alone.
"""

from types import MethodType
from typing import Any, cast

import torch
from torch import Tensor, nn

from pfedmoap.models.clip.blocks import is_plain_block

_PLAIN = "ResidualAttentionBlock"  # open_clip's other kinds add up in other places
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def complete(model: nn.Module, precision: str) -> None:
    """Convert, in place, what open_clip has left in float32 though a half layer reads it.

    Args:
        model: A model that ``create_model`` made with the same precision.
        precision: ``fp32`` changes nothing; ``bf16`` or ``fp16``.
    """
    if precision not in DTYPES:
        return
    dtype = DTYPES[precision]
    text: Any = getattr(model, "text", None)
    if hasattr(getattr(text, "transformer", None), "get_input_embeddings"):
        text.to(dtype)  # transformers' norms and embeddings run in the dtype of the rest
    for module in model.modules():
        learned = [getattr(module, name, None) for name in ("cls_emb", "gamma")]
        if isinstance(getattr(module, "attn", None), nn.MultiheadAttention):
            learned.append(getattr(module, "query", None))
        for value in learned:
            if isinstance(value, nn.Parameter):
                value.data = value.data.to(dtype)
    tower: Any = getattr(getattr(model, "visual", None), "transformer", None)
    blocks: Any = getattr(tower, "resblocks", [])
    if all(is_plain_block(block) and type(block).__name__ == _PLAIN for block in blocks):
        for block in blocks:
            block.forward = MethodType(_finely, block)
        if len(blocks):
            blocks[-1].register_forward_hook(_round)


def _finely(block: Any, q_x: Tensor, attn_mask: Tensor | None = None, **_: None) -> Tensor:
    """A pre-norm block of open_clip whose residual stream is float32, (B, T, W)."""
    x, dtype = q_x.float(), block.attn.in_proj_weight.dtype
    x = x + block.ls_1(block.attention(q_x=block.ln_1(x).to(dtype), attn_mask=attn_mask))
    return cast(Tensor, x + block.ls_2(block.mlp(block.ln_2(x).to(dtype))))


def _round(block: Any, _: object, output: Tensor) -> Tensor:
    """What follows the last block computes in half precision as ever."""
    return output.to(block.attn.in_proj_weight.dtype)


def computes_in(module: nn.Module) -> torch.dtype:
    """What the first matrix of a module computes in, which is the dtype it must be handed.

    A module's first parameter does not tell: in half precision open_clip keeps class tokens,
    positions, embeddings and normalisations in float32.
    """
    for part in module.modules():
        weight = getattr(part, "in_proj_weight", None)  # of an attention layer
        if weight is None and isinstance(part, nn.Conv2d | nn.Linear):
            weight = part.weight
        if isinstance(weight, torch.Tensor):
            return weight.dtype
    return next(iter(module.parameters())).dtype
