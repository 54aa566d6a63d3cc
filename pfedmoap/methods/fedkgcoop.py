"""FedKgCoOp: PromptFL whose class features stay near the hand-written ones (Yao et al., CVPR 2023).

Full title: "Visual-Language Prompt Tuning with Knowledge-guided Context Optimization", by H. Yao,
R. Zhang and C. Xu, arXiv 2303.13283. Clients minimise cross-entropy plus ``strength`` times the
mean over classes of ``||w_c - w_c^clip||^2``, with w_c the unit-norm class features of the prompt
and w_c^clip those of a hand-written one. ``strength`` defaults to the paper's lambda, 8.

Where we depart: the paper has one learner and no federation; the prompt is trained and averaged as
PromptFL's is. The distance is a part of every example's loss, so that under differential privacy
it is clipped along with it.
"""

from dataclasses import dataclass, field
from functools import cached_property

from torch import Tensor

from pfedmoap.client.privatizer import Mode
from pfedmoap.client.problem import CONSTANT
from pfedmoap.config.bounds import NotNegative
from pfedmoap.methods.averaged_prompt import AveragedPrompt
from pfedmoap.prompts.tuning import PromptProblem, check_templates, template_features
from pfedmoap.wire.messages import Arrays


@dataclass(frozen=True)
class GuidedProblem(PromptProblem):
    """Cross-entropy plus the distance of class features to hand-written ones.

    Attributes:
        written: Class features of the hand-written prompt, (C, D).
        strength: Weight of the distance.
    """

    written: Tensor = field(kw_only=True, metadata=CONSTANT)
    strength: float = 8.0

    def represent(self, params: Arrays) -> Arrays:
        """Encode the prompts, (K, C, D), and measure how far each is from the written one, (K,)."""
        text = self.encode(params)
        return {"text": text, "distance": (text - self.written).square().sum(-1).mean(-1)}

    def losses(self, params: Arrays, shared: Arrays, features: Arrays, labels: Tensor) -> Tensor:
        """Cross-entropy over all classes plus the weighted distance, (K, B)."""
        each = super().losses(params, shared, features, labels)
        return each + self.strength * shared["distance"].unsqueeze(-1)


@dataclass(frozen=True)
class FedKgCoOp(AveragedPrompt):
    """The method with its hyperparameters.

    Attributes:
        strength: Weight lambda of the distance; 0 is PromptFL.
        template: Hand-written prompt with ``{}``; none takes the data set's own ones.
    """

    strength: NotNegative = 8.0
    template: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_templates(self.setting, self.template)

    def privacy_gap(self, mode: Mode) -> str | None:
        """See `HasPrivacyAnalysis`: the distance is a term of each example's loss."""
        return super().privacy_gap(mode)

    def problem(self, start: Arrays) -> GuidedProblem:
        """Add the distance to the hand-written class features."""
        return GuidedProblem(
            self.encoder,
            self.setting.backbone.logit_scale,
            self.compose,
            written=self._written,
            strength=self.strength,
        )

    @cached_property
    def _written(self) -> Tensor:
        return template_features(self.setting, self.template)


METHOD = FedKgCoOp
