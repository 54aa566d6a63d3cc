"""FedProGrad: PromptFL that drops what disagrees with zero-shot CLIP (Zhu et al., ICCV 2023).

Full title: "Prompt-aligned Gradient for Prompt Tuning", by B. Zhu, Y. Niu, Y. Han, Y. Wu and
H. Zhang, arXiv 2205.14865. In every step G_d is the gradient of cross-entropy, the domain's
direction, and G_g that of KL(p_zs || p), the general one, with p_zs what the hand-written prompt
predicts for the same images. Where they disagree, <G_d, G_g> < 0, the step goes along

    G_d - share <G_d, G_g> / ||G_g||^2 G_g,

and else along G_d. ``share`` is the paper's lambda, 1: what is left is orthogonal to G_g.

Where we depart: the paper has one learner and no federation; the prompt is trained and averaged as
PromptFL's is. The two gradients are those of two copies of the prompt, which the optimiser keeps
equal: so each is clipped and noised under differential privacy, both in one vector, and the
projection computes from what is private already.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated

import torch
from torch import Tensor
from torch.nn import functional as F

from pfedmoap.client.optimisers import SGD
from pfedmoap.client.privatizer import Mode, Privatizer
from pfedmoap.client.problem import CONSTANT
from pfedmoap.config.bounds import Bounds
from pfedmoap.contract.stacking import stack
from pfedmoap.contract.tasks import ClientResult, ClientTask
from pfedmoap.methods.averaged_prompt import AveragedPrompt
from pfedmoap.models.logits import cosine_logits
from pfedmoap.prompts.tuning import PromptProblem, check_templates, template_features, tune
from pfedmoap.wire.messages import Arrays

DOMAIN, GENERAL = "context", "general"
"""The two copies of the prompt: one feels cross-entropy alone, one the divergence alone."""


@dataclass(frozen=True)
class TwoDirections(PromptProblem):
    """Cross-entropy of one copy of the prompt plus the divergence of the other from zero-shot.

    Attributes:
        written: Class features of the hand-written prompt, (C, D).
    """

    written: Tensor = field(kw_only=True, metadata=CONSTANT)

    def represent(self, params: Arrays) -> Arrays:
        """Encode both copies in one call, each (K, C, D)."""
        both = self.encoder(torch.cat([params[DOMAIN], params[GENERAL]]))
        domain, general = both.unflatten(0, (2, -1))
        return {"text": domain, "general_text": general}

    def losses(self, params: Arrays, shared: Arrays, features: Arrays, labels: Tensor) -> Tensor:
        """Cross-entropy plus KL(zero-shot || prompt), (K, B)."""
        zero_shot = cosine_logits(features["image"], self.written, self.scale).log_softmax(-1)
        tuned = self.logits(shared["general_text"], features).log_softmax(-1)
        divergence = F.kl_div(tuned, zero_shot, reduction="none", log_target=True).sum(-1)
        return super().losses(params, shared, features, labels) + divergence


@dataclass(frozen=True)
class AlignedSGD(SGD):
    """SGD along the domain's gradient without what goes against the general one.

    Attributes:
        share: How much of the disagreeing part is taken out.
    """

    share: float = 1.0

    def init(self, params: Arrays) -> Arrays:
        """Start with zero velocity, one for both copies."""
        return super().init({DOMAIN: params[DOMAIN]})

    def direction(
        self, params: Arrays, gradients: Arrays, state: Arrays
    ) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
        """Give both copies the same direction; see `Optimiser.direction`."""
        domain, general = gradients[DOMAIN], gradients[GENERAL]
        against = (domain * general).sum((-2, -1), keepdim=True).clamp(max=0)
        size = general.square().sum((-2, -1), keepdim=True).clamp_min(torch.finfo().tiny)
        aligned = domain - self.share * against / size * general
        found, state = super().direction({DOMAIN: params[DOMAIN]}, {DOMAIN: aligned}, state)
        return {DOMAIN: found[DOMAIN], GENERAL: found[DOMAIN]}, state


@dataclass(frozen=True)
class FedProGrad(AveragedPrompt):
    """The method with its hyperparameters.

    Attributes:
        share: How much of the disagreeing part of a gradient is dropped (lambda); 0 is PromptFL.
        template: Hand-written prompt with ``{}``; none takes the data set's own ones.
    """

    share: Annotated[float, Bounds(ge=0, le=1)] = 1.0
    template: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_templates(self.setting, self.template)

    def privacy_gap(self, mode: Mode) -> str | None:
        """See `HasPrivacyAnalysis`: both gradients are in the private step."""
        return super().privacy_gap(mode)

    def train(self, tasks: Sequence[ClientTask], privatizer: Privatizer) -> list[ClientResult]:
        """Train two copies of what was sent, which stay equal, and upload one."""

        def begin(batch: list[ClientTask]) -> tuple[PromptProblem, Arrays]:
            parts = [self.parts(task.download, task.local) for task in batch]
            start = stack(parts, self.setting.backbone.device)
            return self._two_directions, {**start, GENERAL: start[DOMAIN].clone()}

        training = self.setting.training
        optimiser = AlignedSGD(training.momentum, training.weight_decay, self.share)
        trained = tune(tasks, self.setting, privatizer, begin, optimiser=optimiser)
        return [self.divide(each) for each in trained]

    @cached_property
    def _two_directions(self) -> TwoDirections:
        written = template_features(self.setting, self.template)
        return TwoDirections(self.encoder, self.setting.backbone.logit_scale, written=written)


METHOD = FedProGrad
