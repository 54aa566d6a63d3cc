"""Cross-entropy of a personal prompt beside FedPGP's contrastive loss of the global one (eq. 6)."""

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from pfedmoap.client.problem import CONSTANT
from pfedmoap.prompts.tuning import PromptProblem
from pfedmoap.wire.messages import Arrays


@dataclass(frozen=True)
class ResidualProblem(PromptProblem):
    """Cross-entropy of K clients' personal prompts, plus the contrastive loss.

    Attributes:
        written: Class features of the hand-written prompt, (C, D).
        mu: Weight of the contrastive loss.
        temperature: Its temperature tau.
    """

    written: Tensor = field(kw_only=True, metadata=CONSTANT)
    mu: float = 1.0
    temperature: float = 0.5

    def represent(self, params: Arrays) -> Arrays:
        """Encode the personal prompts, (K, C, D), and contrast them with the global ones, (K,)."""
        both = self.encoder(torch.cat([params["context"], self.compose(params)]))
        common, personal = both.unflatten(0, (2, -1))
        towards = (common * self.written).sum(-1)  # (K, C)
        apart = (common * personal).sum(-1)
        contrast = F.softplus((apart - towards) / self.temperature).mean(-1)
        return {"text": personal, "contrast": contrast}

    def losses(self, params: Arrays, shared: Arrays, features: Arrays, labels: Tensor) -> Tensor:
        """Cross-entropy over all classes plus the weighted contrast, (K, B)."""
        each = super().losses(params, shared, features, labels)
        return each + self.mu * shared["contrast"].unsqueeze(-1)
