"""FedCLIP: an attention over the features of an image, averaged (Lu et al., IEEE DEB 2023).

Full title: "FedCLIP: Fast Generalization and Personalization for CLIP in Federated Learning", by
W. Lu, X. Hu, J. Wang and X. Xie, arXiv 2302.13485. There is no prompt to train: an adapter weighs
the D coordinates of an image's feature I,

    I* = softmax(W_2 tanh(W_1 I + b_1) + b_2) * I,

scaled to unit norm, and the class features are those of a hand-written prompt. Clients train the
adapter, the server averages it, and all clients classify with the new average.

Where we depart: the loss is cross-entropy over all classes. The paper's is CLIP's contrastive loss
of the images and texts of one batch, in which two images of one class are taken for different
ones; it has no gradient of one example, and with it no private step.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from pfedmoap.client.privatizer import Mode, Privatizer
from pfedmoap.client.problem import CONSTANT, Problem
from pfedmoap.contract.folding import Folded
from pfedmoap.contract.predicting import PredictionTask, sent_arrays, with_one_model
from pfedmoap.contract.stacking import stack
from pfedmoap.contract.tasks import ArraySpec, ClientResult, ClientTask, Prediction
from pfedmoap.methods.averaged_prompt import AveragedPrompt
from pfedmoap.models.clip.tokens import ClassPosition
from pfedmoap.models.logits import cosine_logits, cross_entropy
from pfedmoap.prompts.tuning import check_templates, template_features, tune
from pfedmoap.seeding import generator
from pfedmoap.wire.messages import Arrays, Download


def adapted(params: Arrays, image: Tensor) -> Tensor:
    """Weigh the coordinates of K clients' image features, (K, B, D) to (K, B, D) of unit norm."""
    hidden = torch.tanh(image @ params["hidden_weight"].mT + params["hidden_bias"].unsqueeze(-2))
    scores = hidden @ params["weight"].mT + params["bias"].unsqueeze(-2)
    return F.normalize(scores.softmax(-1) * image, dim=-1)


@dataclass(frozen=True)
class AdapterProblem(Problem):
    """Cross-entropy of adapted image features against fixed class features.

    Attributes:
        written: Class features of the hand-written prompt, (C, D).
        scale: Logit scale.
    """

    written: Tensor = field(metadata=CONSTANT)
    scale: float

    def represent(self, params: Arrays) -> Arrays:
        """Nothing is computed before the images are seen."""
        return {}

    def logits(self, params: Arrays, features: Arrays) -> Tensor:
        """Classify K clients' images, (K, B, C)."""
        return cosine_logits(adapted(params, features["image"]), self.written, self.scale)

    def losses(self, params: Arrays, shared: Arrays, features: Arrays, labels: Tensor) -> Tensor:
        """Cross-entropy over all classes, (K, B)."""
        return cross_entropy(self.logits(params, features), labels)


@dataclass(frozen=True)
class FedCLIP(AveragedPrompt):
    """The method with its hyperparameters.

    Attributes:
        template: Hand-written prompt with ``{}``; none takes the data set's own ones.
    """

    context_length: int = field(default=1, init=False)  # no option: there is no context
    context_init: str | None = field(default=None, init=False)
    class_position: ClassPosition = field(default="end", init=False)
    class_specific: bool = field(default=False, init=False)
    template: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_templates(self.setting, self.template)

    def privacy_gap(self, mode: Mode) -> str | None:
        """See `HasPrivacyAnalysis`: the whole adapter is in the private step and is averaged."""
        return super().privacy_gap(mode)

    @property
    def uploads(self) -> dict[str, ArraySpec]:
        """The adapter is uploaded: two layers with biases, (D, D) and (D,)."""
        width = self.setting.backbone.embed_dim
        layer = {"weight": ArraySpec((width, width)), "bias": ArraySpec((width,))}
        return {f"hidden_{name}": spec for name, spec in layer.items()} | layer

    def init(self) -> Arrays:
        """Start as `torch.nn.Linear` does: weights and biases uniform within 1 / sqrt(D)."""
        stream = generator(self.setting.seed, "adapter")
        bound = 1 / math.sqrt(self.setting.backbone.embed_dim)
        return {
            name: bound * (2 * torch.rand(spec.shape, generator=stream) - 1)
            for name, spec in self.uploads.items()
        }

    def train(self, tasks: Sequence[ClientTask], privatizer: Privatizer) -> list[ClientResult]:
        """Train the adapter that was sent."""

        def begin(batch: list[ClientTask]) -> tuple[Problem, Arrays]:
            parts = [self.parts(task.download, task.local) for task in batch]
            return self._problem, stack(parts, self.setting.backbone.device)

        return [self.divide(each) for each in tune(tasks, self.setting, privatizer, begin)]

    @torch.no_grad()
    def classify(self, parts: Arrays, features: Arrays) -> Prediction:
        """Classify images (B, D) with one adapter."""
        device = self.setting.backbone.device
        one = stack([parts], device)
        images = {"image": features["image"][None].to(device)}
        return Prediction(self._problem.logits(one, images)[0])

    def predict_together(self, tasks: Iterable[PredictionTask]) -> Iterator[Prediction]:
        """See `CanPredictTogether`: all clients have the same adapter."""
        return with_one_model(tasks, sent_arrays, self.predict, self.features)

    def fold(self, download: Download, local: Arrays | None) -> Folded:
        """See `CanFold`: the adapter, and the class features."""
        problem = self._problem
        parts = self.prompt_of(download, local)
        return Folded("adapter", {"scale": problem.scale}, {"text": problem.written, **parts})

    @cached_property
    def _problem(self) -> AdapterProblem:
        written = template_features(self.setting, self.template)
        return AdapterProblem(written, self.setting.backbone.logit_scale)


METHOD = FedCLIP
