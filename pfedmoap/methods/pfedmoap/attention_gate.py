"""The attention gate that mixes prompt experts for one client (pFedMoAP, section 3.3)."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pfedmoap.errors import ConfigError, ShapeError
from pfedmoap.seeding import generator

Pooling = Literal["average", "strided"]


def pool_features(features: Tensor, width: int, pooling: Pooling) -> Tensor:
    """Reduce the last axis from D to ``width``, without normalising again.

    Args:
        features: (..., D).
        width: The gate's width d_g, at most D.
        pooling: ``average`` of neighbouring coordinates, as the paper's word says; ``strided``
            keeps every (D / d_g)-th coordinate, as the released code does.

    Returns:
        (..., d_g).

    Raises:
        ConfigError: ``width`` exceeds D.
    """
    dim = features.shape[-1]
    if width > dim:
        raise ConfigError(f"gate width {width} exceeds the feature width {dim}; use at most {dim}")
    if width == dim:
        return features
    if pooling == "strided":
        index = torch.arange(width, device=features.device) * dim // width
        return features[..., index]
    pooled = F.adaptive_avg_pool1d(features.reshape(-1, 1, dim), width)
    return pooled.reshape(*features.shape[:-1], width)


class AttentionGate(nn.Module):
    """Multi-head attention with the image as query and each class's expert features as keys.

    For class c: ``Q = pool(I)``, ``K = V = [pool(T_1(c)), .., pool(T_E(c))]`` and the score is
    ``<pool(I), MHA(Q, K, V)>``, with parameters shared over classes (pFedMoAP, eq. 5-7; our
    ``width`` is their d_g). The output projection is folded into the query side, so that the
    mixed feature (B, C, d_g) never exists; the result is the same.

    Args:
        width: Width d_g of the gate; a multiple of ``heads``.
        heads: Attention heads h.
        scale: ``sqrt`` divides dot products by the root of the head width, as the paper says;
            a number multiplies them instead (the released code uses 10.0).
        pooling: How features of width D are reduced to ``width``.
        seed: Seed of the initial weights: uniform within 1 / sqrt(width), biases too.

    Example:
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
        pooling: Pooling = "average",
        seed: int = 0,
    ) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise ConfigError(f"gate width {width} is not a multiple of its {heads} heads")
        self.width, self.heads, self.pooling = width, heads, pooling
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
        pooled_image = pool_features(image, self.width, self.pooling)  # (B, d_g)
        pooled = pool_features(experts, self.width, self.pooling)  # (E, C, d_g)
        query = self.query(pooled_image).unflatten(-1, (self.heads, -1))  # (B, H, d)
        key = self.key(pooled).unflatten(-1, (self.heads, -1))  # (E, C, H, d)
        value = self.value(pooled).unflatten(-1, (self.heads, -1))
        attention = (torch.einsum("bhd,echd->bhce", query, key) * self.scale).softmax(-1)
        # <I, W_o m + b_o> = <W_o^T I, m> + <I, b_o>
        folded = (pooled_image @ self.output.weight).unflatten(-1, (self.heads, -1))
        agreement = torch.einsum("bhd,echd->bhce", folded, value)
        scores = (attention * agreement).sum(dim=(1, 3))  # (B, C)
        return scores + (pooled_image @ self.output.bias)[:, None], attention.mean(1)
