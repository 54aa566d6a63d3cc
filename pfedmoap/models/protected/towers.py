"""CLIP's two towers as functions of named weights: the full ones, and the auxiliary's.

A tower's stored blocks need not be its layers: an auxiliary tower may run one block many times
(*looped*, FedSP's form), or only a few of the whole tower's blocks (*dropped*, as in
Offsite-Tuning, arXiv 2302.04870).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pfedmoap.errors import ConfigError
from pfedmoap.models.clip.image_tokens import TokenTower
from pfedmoap.models.clip.shared_prefix import TextTower
from pfedmoap.models.protected.blocks import (
    BlockForm,
    block_form,
    block_weights,
    normalise,
    project,
    run_blocks,
)
from pfedmoap.models.protected.naming import part_of
from pfedmoap.wire.messages import Arrays

Shape = Literal["looped", "dropped"]


@dataclass(frozen=True)
class Reduction:
    """How an auxiliary tower is cut out of a whole one.

    Attributes:
        kept: Which of the whole tower's blocks it stores.
        layers: Which stored block runs at each of its layers.
        prefixed: The whole tower's layers that have a prefix, one for each of its own.
    """

    kept: tuple[int, ...]
    layers: tuple[int, ...]
    prefixed: tuple[int, ...]


def reduction(depth: int, shape: Shape, blocks: int) -> Reduction:
    """Choose the blocks of an auxiliary tower.

    Args:
        depth: Blocks of the whole tower.
        shape: ``looped`` stores the first ``blocks`` blocks and runs them in turn to the full
            depth, so that every layer has its prefix on both sides; ``dropped`` stores evenly
            spaced blocks, the first and the last among them, runs each once, and has a prefix at
            those layers alone.
        blocks: Blocks that it stores.

    Returns:
        The choice.

    Raises:
        ConfigError: There are not so many blocks.
    """
    if not 1 <= blocks <= depth:
        raise ConfigError(
            f"an auxiliary tower cannot store {blocks} blocks of {depth}; set "
            f"--method.auxiliary_blocks between 1 and {depth}"
        )
    if shape == "looped":
        everything = tuple(range(depth))
        return Reduction(everything[:blocks], tuple(i % blocks for i in everything), everything)
    kept = tuple(int(i) for i in np.linspace(0, depth - 1, blocks).round())
    return Reduction(kept, tuple(range(blocks)), kept)


def whole(depth: int) -> Reduction:
    """The reduction that leaves nothing out."""
    return reduction(depth, "dropped", depth)


def text_weights(
    tower: TextTower, kept: Sequence[int], tokens: Tensor | None, length: int
) -> Arrays:
    """Name the weights of a text tower's kept parts.

    Args:
        tower: The whole tower.
        kept: Which of its blocks.
        tokens: Which rows of the token embedding, (V,); ``None`` for all.
        length: How many positions.

    Returns:
        ``embedding`` (V, W), ``positions`` (S, W), ``block0.*``, ``norm.*`` and ``projection``.
    """
    embedding: Tensor = cast(nn.Embedding, tower.embedding).weight.detach()
    return {
        "embedding": embedding if tokens is None else embedding[tokens.to(embedding.device)],
        "positions": tower.positions[:length].detach(),
        **_blocks(tower.blocks, kept),
        **_norm_weights("norm", tower.final_norm),
        **_projection(tower.projection),
    }


def image_weights(tower: TokenTower, kept: Sequence[int]) -> Arrays:
    """Name the weights of an image tower's kept parts.

    Returns:
        ``patches`` (W, 3 s s), ``class_embedding`` (W,), ``positions`` (1 + M, W),
        ``first_norm.*``, ``block0.*``, ``norm.*`` and ``projection``.
    """
    return {
        "patches": tower.patches.weight.detach().flatten(1),
        "class_embedding": tower.class_embedding.detach(),
        "positions": tower.positions.detach(),
        **_norm_weights("first_norm", tower.first_norm),
        **_blocks(tower.blocks, kept),
        **_norm_weights("norm", tower.norm),
        **_projection(tower.projection),
    }


@dataclass(frozen=True)
class TextForm:
    """A text tower without its weights, with the texts that it reads.

    The words that all texts begin with, ``a photo of a``, are run once for all of them.

    Attributes:
        ids: Token ids of N texts, rows of the embedding, (N, S).
        ends: Position of each text's end token, (N,).
        block: What its blocks have in common.
        layers: Which stored block runs at each layer.
        prefixed: Which layers have a prefix.
    """

    ids: Tensor
    ends: Tensor
    block: BlockForm
    layers: tuple[int, ...]
    prefixed: tuple[int, ...]

    def encode(self, weights: Arrays, prefix: Tensor | None = None) -> Tensor:
        """Encode the texts.

        Args:
            weights: See `text_weights`; the same for all, or each (K, ...).
            prefix: Keys and values, (K, layers, 2, p, W); ``None`` for none.

        Returns:
            Unit-norm float32 features, (K, N, D); K is 1 where nothing says otherwise.
        """
        embedding, positions = weights["embedding"], weights["positions"]
        ids = self.ids.to(embedding.device)
        x = embedding[ids][None] if embedding.dim() == 2 else embedding[:, ids]
        x = x + (positions if positions.dim() == 2 else positions[:, None])
        shared = self._shared
        read = self.ends.to(x.device) - shared
        common = x[:, :1, :shared] if shared else None
        x = x[:, :, shared:]
        x = _through(x, weights, self.block, self.layers, self.prefixed, prefix, read, common)
        return _out(x, weights, self.block)

    @cached_property
    def _shared(self) -> int:
        """How many tokens all texts begin with, end tokens apart; 0 where there is one text."""
        if len(self.ids) < 2:
            return 0
        same = (self.ids == self.ids[:1]).all(0).long().cumprod(0).sum()
        return min(int(same), int(self.ends.min()))


@dataclass(frozen=True)
class ImageForm:
    """An image tower without its weights.

    Attributes:
        patch_size: Pixels of a patch's side.
        block: What its blocks have in common.
        layers: Which stored block runs at each layer.
        prefixed: Which layers have a prefix.
    """

    patch_size: int
    block: BlockForm
    layers: tuple[int, ...]
    prefixed: tuple[int, ...]

    def embed(self, weights: Arrays, pixels: Tensor) -> Tensor:
        """Turn preprocessed images (K, B, 3, H, H) into tokens (K, B, 1 + M, W)."""
        clients, images, _, height, width = pixels.shape
        side = self.patch_size
        cut = pixels.unflatten(4, (width // side, side)).unflatten(3, (height // side, side))
        cut = cut.permute(0, 1, 3, 5, 2, 4, 6).flatten(4).flatten(2, 3)  # (K, B, M, 3 s s)
        patches = project(cut, weights["patches"])
        first = weights["class_embedding"].expand(clients, -1)[:, None, None]
        x = torch.cat([first.expand(-1, images, -1, -1), patches], dim=2)
        positions = weights["positions"]
        x = x + (positions if positions.dim() == 2 else positions[:, None])
        if "first_norm.weight" in weights:
            gain, bias = weights["first_norm.weight"], weights["first_norm.bias"]
            x = normalise(x, gain, bias, self.block.epsilon)
        return x

    def encode(self, weights: Arrays, tokens: Tensor, prefix: Tensor | None = None) -> Tensor:
        """Encode embedded images.

        Args:
            weights: See `image_weights`; the same for all, or each (K, ...).
            tokens: (K, B, 1 + M, W).
            prefix: Keys and values, (K, layers, 2, p, W); ``None`` for none.

        Returns:
            Unit-norm float32 features, (K, B, D).
        """
        read = torch.zeros(tokens.shape[1], dtype=torch.int64, device=tokens.device)
        x = _through(tokens, weights, self.block, self.layers, self.prefixed, prefix, read)
        return _out(x, weights, self.block)


def text_form(
    tower: TextTower, kept: Reduction, ids: Tensor, ends: Tensor, prefixed: Sequence[int]
) -> TextForm:
    """Read the form of a text tower's reduction, with the texts where the tower is."""
    device = tower.positions.device
    form = block_form(tower.blocks[0], causal=True)
    return TextForm(ids.to(device), ends.to(device), form, kept.layers, tuple(prefixed))


def image_form(tower: TokenTower, kept: Reduction, prefixed: Sequence[int]) -> ImageForm:
    """Read the form of an image tower's reduction."""
    return ImageForm(
        tower.patches.kernel_size[0],
        block_form(tower.blocks[0], causal=False),
        kept.layers,
        tuple(prefixed),
    )


def _through(
    x: Tensor,
    weights: Arrays,
    form: BlockForm,
    layers: Sequence[int],
    prefixed: Sequence[int],
    prefix: Tensor | None,
    read: Tensor,
    common: Tensor | None = None,
) -> Tensor:
    """Run the layers, each with its part of the prefix, if it has one; see `run_blocks`."""
    stored = [part_of(f"block{i}", weights) for i in sorted(set(layers))]
    dtype = stored[0]["attn.in_proj_weight"].dtype
    clients = len(x) if prefix is None else max(len(x), len(prefix))
    x = x.to(dtype).expand(clients, -1, -1, -1)
    if common is not None:
        common = common.to(dtype).expand(clients, -1, -1, -1)
    places: list[Tensor | None] = [None] * len(layers)
    if prefix is not None:
        for row, layer in enumerate(prefixed):
            places[layer] = prefix[:, row]
    blocks = [stored[i] for i in layers]
    return run_blocks(x, blocks, form, places, common=common, read=read)[:, :, 0]


def _out(x: Tensor, weights: Arrays, form: BlockForm) -> Tensor:
    """Normalise and project (K, N, W) to unit-norm features (K, N, D)."""
    x = normalise(x, weights["norm.weight"], weights["norm.bias"], form.epsilon)
    if "projection" in weights:
        x = project(x, weights["projection"], weights.get("projection_bias"))
    return F.normalize(x.float(), dim=-1)


def _blocks(blocks: Sequence[nn.Module], kept: Sequence[int]) -> Arrays:
    return {
        f"block{row}.{name}": value
        for row, i in enumerate(kept)
        for name, value in block_weights(blocks[i]).items()
    }


def _norm_weights(name: str, norm: nn.Module) -> Arrays:
    return {f"{name}.{part}": value.detach() for part, value in norm.named_parameters()}


def _projection(projection: Tensor | nn.Linear | None) -> Arrays:
    """A projection as a weight (D, W), with its bias where it has one."""
    if projection is None:
        return {}
    if isinstance(projection, nn.Linear):
        bias = {} if projection.bias is None else {"projection_bias": projection.bias.detach()}
        return {"projection": projection.weight.detach(), **bias}
    return {"projection": projection.detach().mT}
