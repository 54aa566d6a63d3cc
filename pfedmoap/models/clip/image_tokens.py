"""Prompt tokens inside a ViT image tower (VPT-shallow, arXiv 2203.12119): a partial forward pass.

Prompts go in before the first block, so everything below (patch embedding, positions, first
normalisation) is frozen and the same in every step: it is computed once and cached as a kind of
feature. Prompts carry no position embedding, so that a set of prompts has no order. Whether a tower
can be cut there is decided from its structure, not its name.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pfedmoap.errors import ShapeError
from pfedmoap.models.clip.blocks import after_attention, is_plain_block, merge_heads, split_heads
from pfedmoap.models.clip.half_precision import computes_in
from pfedmoap.models.clip.packed import PackedBlock, packed_blocks


@dataclass(frozen=True)
class TokenTower:
    """A ViT, split at the input of its first block, where prompt tokens are inserted.

    Attributes:
        patches: Patch embedding, a convolution with equal kernel and stride.
        class_embedding: (W,).
        positions: (1 + M, W).
        first_norm: What embedded tokens go through before the blocks.
        transformer: The blocks, as open_clip runs them: tokens (B, T, W) to tokens (B, T, W).
        blocks: The same one by one.
        norm: Normalisation of the class token.
        projection: (W, D), or ``None`` where the joint space is the token space.
        class_token: The class token as it enters the blocks, the same for every image, (W,).
    """

    patches: nn.Conv2d
    class_embedding: Tensor
    positions: Tensor
    first_norm: nn.Module
    transformer: nn.Module
    blocks: tuple[nn.Module, ...]
    norm: nn.Module
    projection: Tensor | None
    class_token: Tensor

    @cached_property
    def run_blocks(self) -> tuple[nn.Module | PackedBlock, ...]:
        """The blocks as they are run where they stay frozen."""
        return packed_blocks(self.blocks)

    @contextmanager
    def recording(self) -> Iterator[dict[str, Tensor]]:
        """Record the features of one ordinary pass: ``tokens`` and ``class_token``.

        ``tokens`` are what enters the blocks, (B, 1 + M, W), class token first; ``class_token`` is
        the class token that leaves them, normalised and not projected, (B, W).
        """
        found: dict[str, Tensor] = {}

        def note(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            found["tokens"] = inputs[0]
            found["class_token"] = self.norm(output[:, 0])

        handle = self.transformer.register_forward_hook(note)
        try:
            yield found
        finally:
            handle.remove()


def find_tokens(visual: nn.Module) -> TokenTower | str:
    """Find the place for prompt tokens in an image tower.

    Args:
        visual: The image tower of an open_clip model.

    Returns:
        The tower's part above that place, or the reason why there is none.
    """
    tower: Any = visual  # open_clip's towers share no interface
    if not all(hasattr(tower, part) for part in ("transformer", "ln_post", "class_embedding")):
        return f"its image tower is a {type(visual).__name__}, which has no open_clip ViT's tokens"
    if tower.attn_pool is not None or tower.pool_type != "tok":
        return "its image tower pools over all tokens, prompts included, not at the class token"
    blocks = tuple(tower.transformer.resblocks)
    if not all(is_plain_block(block) for block in blocks):
        return "its image tower's blocks have a custom form"
    with torch.no_grad():
        class_token = tower.ln_pre(tower.class_embedding + tower.positional_embedding[0])
    return TokenTower(
        patches=tower.conv1,
        class_embedding=tower.class_embedding,
        positions=tower.positional_embedding,
        first_norm=tower.ln_pre,
        transformer=tower.transformer,
        blocks=blocks,
        norm=tower.ln_post,
        projection=tower.proj,
        class_token=class_token,
    )


class PromptedVision:
    """Runs the rest of an image tower on cached tokens with prompts after the class token.

    Args:
        tower: The part of the tower above the prompts.

    Examples:
        >>> import torch
        >>> from pfedmoap.models.clip.clip import FrozenCLIP
        >>> see = FrozenCLIP.embedded().prompted_vision()
        >>> tokens, prompts = torch.randn(2, 5, 17, see.width), torch.randn(2, 5, 3, see.width)
        >>> tuple(see(tokens, prompts).shape)
        (2, 5, 128)
    """

    def __init__(self, tower: TokenTower) -> None:
        self._tower = tower
        self.width = tower.class_token.shape[-1]

    @property
    def patch_size(self) -> int:
        """Side p of a patch in pixels."""
        return int(self._tower.patches.kernel_size[0])

    @property
    def class_token(self) -> Tensor:
        """The class token as it enters the blocks, the same for every image, (W,)."""
        return self._tower.class_token

    def __call__(self, tokens: Tensor, prompts: Tensor) -> Tensor:
        """Encode images, differentiably with respect to the prompts.

        Args:
            tokens: Cached tokens, class token first, (..., B, 1 + M, W).
            prompts: Prompts of each image, (..., B, k, W); k may be 0, which gives the features of
                the unprompted tower.

        Returns:
            Unit-norm float32 image features, (..., B, D).

        Raises:
            ShapeError: The widths or leading sides differ.
        """
        leading = tokens.shape[:-2]
        if tokens.shape[-1] != self.width or (*prompts.shape[:-2], self.width) != (
            *leading,
            prompts.shape[-1],
        ):
            raise ShapeError(
                f"prompts have shape {tuple(prompts.shape)}, expected "
                f"({', '.join(map(str, leading))}, k, {self.width}) for tokens of shape "
                f"{tuple(tokens.shape)}"
            )
        dtype = computes_in(self._tower.blocks[0])
        cls, patches = tokens[..., :1, :], tokens[..., 1:, :]
        x = torch.cat([cls, prompts.to(tokens.dtype), patches], dim=-2).to(dtype)
        x = x.reshape(-1, *x.shape[-2:])  # (... B, 1 + k + M, W)
        for block in self._tower.run_blocks[:-1]:
            x = _run(block, x)
        x = self._tower.norm(_run(self._tower.run_blocks[-1], x, only_first=True)[:, 0])
        if self._tower.projection is not None:
            x = x @ self._tower.projection
        return F.normalize(x.float(), dim=-1).reshape(*leading, -1)


def _run(block: nn.Module | PackedBlock, x: Tensor, *, only_first: bool = False) -> Tensor:
    """Run one block on tokens (B, T, W); on request only the first one's output, (B, 1, W).

    Attention is written out: torch's fused kernel has no batching rule, which per-example
    gradients need.
    """
    query, key, value = split_heads(block, x)  # (B, H, T, d)
    if only_first:
        query, x = query[:, :, :1], x[:, :1]
    attended = (query @ key.mT).softmax(-1) @ value
    return after_attention(block, x, merge_heads(attended))
