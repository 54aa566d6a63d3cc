"""Selection of the prompts that classify an image (L2P, arXiv 2112.08654; PFPT, 2502.19752)."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from pfedmoap.errors import ConfigError

Rule = Literal["batch", "sample", "all"]


@dataclass(frozen=True)
class Selection:
    """Chooses k prompts of a set by cosine similarity.

    If a set has fewer than k prompts, all are used, so that a shrinking set never fails.

    Attributes:
        rule: ``sample`` lets every image take its own nearest prompts; ``batch`` lets the images of
            a training batch vote, each for its nearest, and all of them use the winners (in
            prediction every image takes its own); ``all`` uses the whole set always.
        count: How many are chosen, k.

    Examples:
        >>> similarity = torch.tensor([[0.1, 0.9, 0.5], [0.2, 0.8, 0.8]])
        >>> Selection("sample", 2).nearest(similarity)
        tensor([[1, 2],
                [1, 2]])
    """

    rule: Rule = "batch"
    count: int = 10

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ConfigError(f"at least 1 prompt must be chosen, got {self.count}")

    def nearest(self, similarity: Tensor) -> Tensor:
        """Choose each image's own prompts; ties go to the lower index.

        Args:
            similarity: Of n prompts, (..., n).

        Returns:
            Ascending indices, (..., min(k, n)) int64; all n of them under the rule ``all``.
        """
        if self.rule == "all":
            everything = torch.arange(similarity.shape[-1], device=similarity.device)
            return everything.expand(similarity.shape)
        # sort, not argsort: older torch has no batching rule for the latter under vmap
        order = similarity.detach().sort(dim=-1, descending=True, stable=True).indices
        return order[..., : self.count].sort(dim=-1).values

    def elected(self, similarity: Tensor, present: Tensor) -> Tensor:
        """Choose the prompts that most images of a batch have among their nearest.

        Args:
            similarity: (K, B, n).
            present: Which images are not padding, (K, B) bool.

        Returns:
            Ascending indices, (K, min(k, n)); ties go to the lower index.
        """
        votes = F.one_hot(self.nearest(similarity), similarity.shape[-1]).sum(-2)  # (K, B, n)
        return self.nearest((votes * present[..., None]).sum(1))


def cosine(queries: Tensor, keys: Tensor) -> Tensor:
    """Cosine similarity of every query with every key: (..., B, Q) and (..., n, Q) to (..., B, n).

    It is zero for a key of zero norm.
    """
    return F.normalize(queries, dim=-1) @ F.normalize(keys, dim=-1).mT
