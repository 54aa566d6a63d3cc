"""The attention gate that mixes prompt experts for one client (pFedMoAP, eq. 7 and 9 to 11)."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pfedmoap.errors import ConfigError, ShapeError
from pfedmoap.seeding import generator

Pooling = Literal["average", "strided"]
Score = Literal["dot", "cosine"]

WIDEST = 128  # the paper's d_g
_RATIO = 2  # of D and d_g where the model is small


def gate_width(dim: int, heads: int) -> int:
    """Choose the width d_g of a gate: the paper's 128, or half of D where that is less.

    So that features are pooled on every model: with d_g = D, pooling would be the identity, and
    nothing made on a small model would say anything about it.

    Args:
        dim: Width D of the features.
        heads: Attention heads h.

    Returns:
        The largest multiple of ``heads`` within that, at least ``heads``.

    Examples:
        >>> [gate_width(dim, heads=8) for dim in (1024, 768, 512, 128)]
        [128, 128, 128, 64]
    """
    return max(min(WIDEST, dim // _RATIO) // heads, 1) * heads


def pool_features(
    features: Tensor, width: int, pooling: Pooling, renormalise: bool = False
) -> Tensor:
    """Reduce the last axis from D to ``width`` (pFedMoAP, eq. 7: "a pooling layer").

    Coordinates of CLIP's space have no order: neighbours are as good as independent, and their
    average shrinks. Of a unit vector, strides keep a norm of sqrt(d_g / D), averages one of
    d_g / D: .354 and .125 for D = 1024 and d_g = 128. With averages, the mixture's logits hardly
    differ by class.

    Args:
        features: (..., D).
        width: The gate's width d_g, at most D.
        pooling: ``strided`` keeps every (D / d_g)-th coordinate, as the released code does;
            ``average`` takes means of neighbouring coordinates.
        renormalise: Whether the result gets unit norm again, which it does not in that code.

    Returns:
        (..., d_g).

    Raises:
        ConfigError: ``width`` exceeds D.
    """
    dim = features.shape[-1]
    if width > dim:
        raise ConfigError(f"gate width {width} exceeds the feature width {dim}; use at most {dim}")
    if width == dim:
        pooled = features
    elif pooling == "strided":
        index = torch.arange(width, device=features.device) * dim // width
        pooled = features[..., index]
    else:
        flat = F.adaptive_avg_pool1d(features.reshape(-1, 1, dim), width)
        pooled = flat.reshape(*features.shape[:-1], width)
    return F.normalize(pooled, dim=-1) if renormalise else pooled


class AttentionGate(nn.Module):
    """Multi-head attention with the image as query and each class's expert features as keys.

    For class c: ``Q = pool(I)``, ``K = V = [pool(T_1(c)), .., pool(T_E(c))]`` (pFedMoAP, eq. 7;
    our ``width`` is their d_g), ``T_MoE(c) = MHA(Q, K, V)`` (eq. 9 and 11), with parameters shared
    over classes, and the score is ``sim(pool(I), T_MoE(c))`` (eq. 10, without the logit scale). For
    a dot product, the output projection is folded into the query side, so that the mixed feature
    (B, C, d_g) never exists; the result is the same.

    Args:
        width: Width d_g of the gate; a multiple of ``heads``.
        heads: Attention heads h.
        scale: ``sqrt`` divides dot products by the root of the head width, as the paper says;
            a number multiplies them instead (the released code uses 10.0).
        pooling: How features of width D are reduced to ``width``; see `pool_features`.
        seed: Seed of the initial weights: uniform within 1 / sqrt(width), biases too.
        score: ``dot`` product of image and mixture (released code), or their ``cosine``, the
            paper's example of a ``sim``.
        renormalise: Whether pooled features get unit norm again.

    Examples:
        >>> gate = AttentionGate(width=32, heads=4)
        >>> image, experts = torch.randn(5, 64), torch.randn(3, 10, 64)
        >>> [tuple(t.shape) for t in gate(image, experts)]
        [(5, 10), (5, 10, 3)]
    """

    def __init__(
        self,
        width: int = 128,
        heads: int = 8,
        scale: float | Literal["sqrt"] = "sqrt",
        pooling: Pooling = "strided",
        seed: int = 0,
        *,
        score: Score = "dot",
        renormalise: bool = False,
    ) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise ConfigError(f"gate width {width} is not a multiple of its {heads} heads")
        self.width, self.heads, self.pooling = width, heads, pooling
        self.score, self.renormalise = score, renormalise
        self.scale = (width // heads) ** -0.5 if scale == "sqrt" else float(scale)
        stream = generator(seed, "gate")
        for name in ("query", "key", "value", "output"):
            linear = nn.utils.skip_init(nn.Linear, width, width)  # no draw from the global stream
            for parameter in linear.parameters():
                nn.init.uniform_(parameter, -(width**-0.5), width**-0.5, generator=stream)
            self.add_module(name, linear)

    query: nn.Linear
    key: nn.Linear
    value: nn.Linear
    output: nn.Linear

    def forward(self, image: Tensor, experts: Tensor) -> tuple[Tensor, Tensor]:
        """Score every class for every image.

        Args:
            image: Unit-norm image features I, (B, D).
            experts: Unit-norm text features of E experts for C classes, (E, C, D).

        Returns:
            Scores before the logit scale, (B, C), and attention averaged over heads, (B, C, E),
            which sums to 1 over the experts.

        Raises:
            ShapeError: The feature widths differ.
        """
        if image.shape[-1] != experts.shape[-1]:
            raise ShapeError(f"image width {image.shape[-1]} != expert width {experts.shape[-1]}")
        pooled_image, pooled = (  # (B, d_g), (E, C, d_g)
            pool_features(features, self.width, self.pooling, self.renormalise)
            for features in (image, experts)
        )
        query = self.query(pooled_image).unflatten(-1, (self.heads, -1))  # (B, H, d)
        key = self.key(pooled).unflatten(-1, (self.heads, -1))  # (E, C, H, d)
        value = self.value(pooled).unflatten(-1, (self.heads, -1))
        attention = (torch.einsum("bhd,echd->bhce", query, key) * self.scale).softmax(-1)
        if self.score == "cosine":
            mixed = torch.einsum("bhce,echd->bchd", attention, value).flatten(-2)  # (B, C, d_g)
            return F.cosine_similarity(
                pooled_image[:, None], self.output(mixed), dim=-1
            ), attention.mean(1)
        # <I, W_o m + b_o> = <W_o^T I, m> + <I, b_o>
        folded = (pooled_image @ self.output.weight).unflatten(-1, (self.heads, -1))
        agreement = torch.einsum("bhd,echd->bhce", folded, value)
        scores = (attention * agreement).sum(dim=(1, 3))  # (B, C)
        return scores + (pooled_image @ self.output.bias)[:, None], attention.mean(1)
