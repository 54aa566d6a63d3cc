"""FedPGP: a global prompt plus a low-rank residual of the client's own (Cui et al., ICML 2024).

Full title: "Harmonizing Generalization and Personalization in Federated Prompt Learning", by
T. Cui, H. Li, J. Wang and Y. Shi, arXiv 2405.09771. A client classifies with P_i = P_g + U_i V_i;
only P_g is uploaded and averaged. Next to cross-entropy it minimises ``mu`` times a contrastive
loss (eq. 6) that draws the global prompt to CLIP's hand-written one and pushes it off its own
personal one; for each class, with z the text features and ``sim`` their cosine,

    -log  e^(sim(z_g, z_clip) / tau) / (e^(sim(z_g, z_clip) / tau) + e^(sim(z_g, z_i) / tau)),

averaged over classes. Defaults are the released code's: mu 1, tau 0.5, rank 4 (their bottleneck).

Where we depart: the hand-written prompt is the data set's (``a photo of a {}.``), as the paper
says; the released code uses placeholder words in its place. The contrastive loss is a part of every
example's loss, so that under differential privacy it is clipped along with it. U and V start at
the same random values for all clients, from the public seed.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from pfedmoap.client.privatizer import Mode
from pfedmoap.config.bounds import Bounds, NotNegative, Positive
from pfedmoap.config.recommended import Recommended
from pfedmoap.contract.tasks import Prediction
from pfedmoap.methods.averaged_prompt import AveragedPrompt
from pfedmoap.methods.fedpgp.contrast import ResidualProblem
from pfedmoap.prompts.tuning import check_templates, classify, template_features
from pfedmoap.seeding import generator
from pfedmoap.wire.messages import Arrays


@dataclass(frozen=True)
class FedPGP(AveragedPrompt):
    """The method with its hyperparameters; defaults are the released code's.

    Attributes:
        rank: Rank of the client's residual.
        mu: Weight of the contrastive loss.
        temperature: Its temperature tau.
        template: Hand-written prompt with ``{}``; none takes the data set's own ones.
    """

    recommended: ClassVar[Recommended] = {"training": {"learning_rate": 1e-3, "epochs": 2}}

    rank: Annotated[int, Bounds(ge=1, le=1024)] = 4
    mu: NotNegative = 1.0
    temperature: Positive = 0.5
    template: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_templates(self.setting, self.template)
        self.layout.check_rank(self.rank)

    def privacy_gap(self, mode: Mode) -> str | None:
        """All parts are in the private step; the contrast is a term of each example's loss."""
        return super().privacy_gap(mode)

    @cached_property
    def own(self) -> Arrays:
        """The residual's factors, U (L, r) and V (r, W)."""
        stream = generator(self.setting.seed, "low-rank residual")
        width = self.setting.backbone.text_width
        return {
            "u": 0.02 * torch.randn(self.layout.rows, self.rank, generator=stream),
            "v": 0.02 * torch.randn(self.rank, width, generator=stream),
        }

    def compose(self, params: Arrays) -> Tensor:
        """The personal prompts, (K, L, W)."""
        return params["context"] + params["u"] @ params["v"]

    def problem(self, start: Arrays) -> ResidualProblem:
        """Contrast the global prompts with the personal ones and the hand-written one."""
        return ResidualProblem(
            self.encoder,
            self.setting.backbone.logit_scale,
            self.compose,
            written=self._written,
            mu=self.mu,
            temperature=self.temperature,
        )

    def predict_global(self, state: Arrays, features: Arrays) -> Prediction:
        """Classify with the global prompt alone."""
        return classify(self.encoder, state["context"], self.setting, features["image"])

    @cached_property
    def _written(self) -> Tensor:
        return template_features(self.setting, self.template)


METHOD = FedPGP
