"""Local image features ("patches") in the joint space of images and texts.

The image tower runs as it is; its last feature map is recorded on the way and projected as the
global feature is. Which towers have such a map is decided from their structure, not their name.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class PatchTower:
    """Where a tower's last feature map is, and how it gets into the joint space.

    Attributes:
        source: Module whose output is the map.
        project: From the map to local features (B, M, D), not yet of unit norm.
    """

    source: nn.Module
    project: Callable[[Tensor], Tensor]

    @contextmanager
    def recording(self) -> Iterator[list[Tensor]]:
        """Collect the maps of all passes within the block."""
        maps: list[Tensor] = []
        handle = self.source.register_forward_hook(lambda _, __, output: maps.append(output))
        try:
            yield maps
        finally:
            handle.remove()


def find_patches(visual: nn.Module) -> PatchTower | str:
    """Find a tower's local features.

    Args:
        visual: The image tower of an open_clip model.

    Returns:
        Where they are, or the reason why there are none.
    """
    tower: Any = visual  # open_clip's towers share no interface
    if isinstance(getattr(tower, "attnpool", None), nn.Module) and hasattr(tower, "layer4"):
        return PatchTower(
            tower.layer4, lambda features: attend_everywhere(tower.attnpool, features)
        )
    if not all(hasattr(tower, part) for part in ("transformer", "ln_post", "class_embedding")):
        return (
            f"its image tower is a {type(visual).__name__}, whose patches have no known projection"
        )
    if tower.attn_pool is not None:
        return "its image tower pools by learned queries, and its patches are never projected"
    return PatchTower(tower.transformer, lambda tokens: project_tokens(tower, tokens))


def project_tokens(tower: Any, tokens: Tensor) -> Tensor:
    """Project a ViT's patch tokens like its class token, as FedOTP (arXiv 2403.00041) does.

    Args:
        tower: An open_clip ``VisionTransformer``.
        tokens: Class token and M patch tokens, (B, 1 + M, W).

    Returns:
        (B, M, D). A tower that pools by average and then normalises has the same normalisation
        applied to each patch.
    """
    patches = tower.ln_post(tokens[:, 1:])
    return patches if tower.proj is None else patches @ tower.proj  # type: ignore[no-any-return]


def attend_everywhere(pool: Any, features: Tensor) -> Tensor:
    """Let every location query a CLIP ResNet's attention pool, as FedOTP's released code does.

    The pool itself has one query only, the mean of all locations; its other outputs are the local
    features. (MaskCLIP, arXiv 2112.01071, would drop the attention and keep value and output
    projection alone.)

    Args:
        pool: An open_clip ``AttentionPool2d``.
        features: The last feature map, (B, W, H, W').

    Returns:
        (B, M, D) with M = H W'.
    """
    tokens = features.flatten(2).permute(2, 0, 1)  # (M, B, W)
    tokens = torch.cat([tokens.mean(0, keepdim=True), tokens])
    tokens = tokens + pool.positional_embedding[:, None].to(tokens.dtype)
    attended, _ = F.multi_head_attention_forward(
        query=tokens[1:],
        key=tokens,
        value=tokens,
        embed_dim_to_check=tokens.shape[-1],
        num_heads=pool.num_heads,
        in_proj_weight=None,
        in_proj_bias=torch.cat([pool.q_proj.bias, pool.k_proj.bias, pool.v_proj.bias]),
        bias_k=None,
        bias_v=None,
        add_zero_attn=False,
        dropout_p=0.0,
        out_proj_weight=pool.c_proj.weight,
        out_proj_bias=pool.c_proj.bias,
        use_separate_proj_weight=True,
        q_proj_weight=pool.q_proj.weight,
        k_proj_weight=pool.k_proj.weight,
        v_proj_weight=pool.v_proj.weight,
        training=False,
        need_weights=False,
    )
    return attended.transpose(0, 1)
