"""Zero-shot CLIP with hand-written templates (Radford et al., ICML 2021, arXiv 2103.00020).

Nothing is trained and nothing travels: the reference line under every other method.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from pfedmoap.client.privatizer import Mode, Privatizer, gap_of_one_phase
from pfedmoap.config.bounds import check_options
from pfedmoap.contract.folding import Folded
from pfedmoap.contract.predicting import PredictionTask, with_one_model
from pfedmoap.contract.tasks import ArraySpec, ClientResult, ClientTask, Prediction, Setting
from pfedmoap.models.logits import cosine_logits
from pfedmoap.prompts.tuning import check_templates, template_features
from pfedmoap.wire.messages import Arrays, ClientId, Download, Update


@dataclass(frozen=True)
class ZeroShot:
    """Classify with the mean feature of some templates, e.g. ``a photo of a {}.``.

    Attributes:
        setting: Backbone, classes, training options and seed.
        template: One template with ``{}`` for the class name; none takes the data set's own ones.
    """

    setting: Setting
    template: str | None = None

    def __post_init__(self) -> None:
        check_options(self, "method")
        check_templates(self.setting, self.template)

    @property
    def trains(self) -> bool:
        """Return false: nothing is trained."""
        return False

    @property
    def features(self) -> tuple[str, ...]:
        """Needs one global feature an image."""
        return ("image",)

    def privacy_gap(self, mode: Mode) -> str | None:
        """See `HasPrivacyAnalysis`: nothing is trained or averaged."""
        if mode == "central":
            return "it uploads nothing, so that there is no average to noise. Use `--privacy none`"
        return gap_of_one_phase(mode)

    @property
    def uploads(self) -> Mapping[str, ArraySpec]:
        """Nothing is uploaded."""
        return {}

    def init(self) -> None:
        """Return an empty state."""

    def plan(self, state: None, cohort: Sequence[ClientId], round: int) -> list[Download]:
        """Make empty downloads."""
        return [Download(round, client, {}) for client in sorted(cohort)]

    def train(self, tasks: Sequence[ClientTask], privatizer: Privatizer) -> list[ClientResult]:
        """Return no results: nothing is trained."""
        return []

    def aggregate(self, state: None, updates: Sequence[Update]) -> None:
        """Return the state unchanged."""

    def aggregation_gap(self) -> str:
        """See `AveragesByRule`."""
        return "zero_shot trains and uploads nothing"

    def predict(self, download: Download, local: Arrays | None, features: Arrays) -> Prediction:
        """Classify; the same for every client."""
        return self.predict_global(None, features)

    def predict_together(self, tasks: Iterable[PredictionTask]) -> Iterator[Prediction]:
        """See `CanPredictTogether`: all images are one model's."""
        return with_one_model(tasks, lambda _: 0, self.predict, self.features)

    def predict_global(self, state: None, features: Arrays) -> Prediction:
        """Classify with the templates."""
        backbone = self.setting.backbone
        image = features["image"].to(backbone.device)
        return Prediction(cosine_logits(image, self._text, backbone.logit_scale))

    def predict_sent(self, download: Download, features: Arrays) -> Prediction:
        """See `SendsGlobalModel`."""
        return self.predict_global(None, features)

    def fold(self, download: Download, local: Arrays | None) -> Folded:
        """See `CanFold`: the templates' class features."""
        return Folded("cosine", {"scale": self.setting.backbone.logit_scale}, {"text": self._text})

    def to_arrays(self, state: None) -> Arrays:
        """Return an empty state."""
        return {}

    def from_arrays(self, arrays: Arrays) -> None:
        """Return an empty state."""

    @cached_property
    def _text(self) -> Tensor:
        return template_features(self.setting, self.template)


METHOD = ZeroShot
