"""PromptFolio: class features of a global and a local prompt, mixed (Pan et al., NeurIPS 2024).

Full title: "Federated Learning from Vision-Language Foundation Models: Theoretical Analysis and
Method", by B. Pan, W. Huang and Y. Shi, arXiv 2409.19610. A client classifies with

    (1 - theta) T_g(c) + theta T_i(c),

T_g(c) the class features of the global prompt, which is averaged, and T_i(c) those of its own,
which never leaves it. Both are trained at once.

Features of both have unit norm before they are mixed, and the mixture is not scaled again.

Where we depart: all clients know the same starting value of the own prompt, so that one that never
took part can predict. It is drawn apart from the global prompt's; with ``context_init`` both start
from the same words, and differ as soon as one is averaged.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

import torch
from torch import Tensor

from pfedmoap.client.privatizer import Mode
from pfedmoap.config.bounds import Bounds
from pfedmoap.contract.tasks import Prediction
from pfedmoap.methods.averaged_prompt import AveragedPrompt
from pfedmoap.prompts.tuning import PromptProblem, classify
from pfedmoap.seeding import derive_seed
from pfedmoap.wire.messages import Arrays


@dataclass(frozen=True)
class MixedProblem(PromptProblem):
    """Cross-entropy of K clients' mixtures of two prompts.

    Attributes:
        theta: Weight of the own prompt's class features.
    """

    theta: float = 0.2

    def encode(self, params: Arrays) -> Tensor:
        """Mix the class features of both prompts, (K, C, D)."""
        shared, own = super().encode(params).unbind(1)
        return (1 - self.theta) * shared + self.theta * own


@dataclass(frozen=True)
class PromptFolio(AveragedPrompt):
    """The method with its hyperparameters.

    Attributes:
        theta: Weight of the own prompt; 0 is PromptFL, and 1 local CoOp from another start.
    """

    theta: Annotated[float, Bounds(ge=0, le=1)] = 0.2

    def privacy_gap(self, mode: Mode) -> str | None:
        """Both prompts are in the private step; one is uploaded."""
        return super().privacy_gap(mode)

    @cached_property
    def own(self) -> Arrays:
        """The own prompt, (L, W)."""
        seed = derive_seed(self.setting.seed, "own prompt")
        return {"own": self.layout.initial(seed).cpu()}

    def compose(self, params: Arrays) -> Tensor:
        """Both prompts of each client, (K, 2, L, W)."""
        return torch.stack([params["context"], params["own"]], dim=1)

    def problem(self, start: Arrays) -> MixedProblem:
        """Mix the class features of both prompts."""
        scale = self.setting.backbone.logit_scale
        return MixedProblem(self.encoder, scale, self.compose, theta=self.theta)

    def predict_global(self, state: Arrays, features: Arrays) -> Prediction:
        """Classify with the global prompt alone."""
        return classify(self.encoder, state["context"], self.setting, features["image"])


METHOD = PromptFolio
