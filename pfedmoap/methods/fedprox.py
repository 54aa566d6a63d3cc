"""Prompt + FedProx: PromptFL with a pull towards the global prompt (Li et al., MLSys 2020).

Full title: "Federated Optimization in Heterogeneous Networks", by T. Li, A. K. Sahu, M. Zaheer,
M. Sanjabi, A. Talwalkar and V. Smith, arXiv 1812.06127. Clients minimise their loss plus
``mu / 2 ||P - P_g||^2`` (eq. 2), where P_g is the prompt that they received this round.

Where we depart from pFedMoAP's released baseline of this name: there the term is built from
detached tensors and has no gradient, so that it is PromptFL; here it pulls. ``mu`` defaults to
that code's 0.5.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from pfedmoap.aggregation import Weighting
from pfedmoap.backbone.clip import PromptEncoder
from pfedmoap.errors import ConfigError
from pfedmoap.gradients import Mode, Privatizer, gap_of_one_phase
from pfedmoap.method import ArraySpec, ClientResult, ClientTask, Prediction, Setting
from pfedmoap.prompt_tuning import average_or_keep, broadcast, classify, tune_sent, upload_all
from pfedmoap.prompts import initial_context
from pfedmoap.types import Arrays, ClientId, Download, Update


@dataclass(frozen=True)
class FedProx:
    """The method with its hyperparameters.

    Attributes:
        setting: The task.
        mu: Weight of the pull; 0 is PromptFL.
        context_length: Context vectors L.
        context_init: Words to start the context from; none draws it at random.
        weighting: ``examples`` weights clients by their training sets, ``uniform`` does not.
    """

    setting: Setting
    mu: float = 0.5
    context_length: int = 16
    context_init: str | None = None
    weighting: Weighting = "examples"

    def __post_init__(self) -> None:
        if self.mu < 0:
            raise ConfigError(f"mu must be 0 or more, got {self.mu}")

    @property
    def trains(self) -> bool:
        """Learns in rounds."""
        return True

    @property
    def features(self) -> tuple[str, ...]:
        """Needs one global feature an image."""
        return ("image",)

    def privacy_gap(self, mode: Mode) -> str | None:
        """The prompt is all it trains; the pull to the global one sees no data."""
        return gap_of_one_phase(mode)

    @property
    def uploads(self) -> Mapping[str, ArraySpec]:
        """The prompt is uploaded."""
        return {"context": ArraySpec((self.context_length, self.setting.backbone.text_width))}

    def init(self) -> Tensor:
        """Start from one prompt (L, W)."""
        return initial_context(
            self.setting.backbone, self.context_length, self.context_init, seed=self.setting.seed
        ).cpu()

    def plan(self, state: Tensor, cohort: Sequence[ClientId], round: int) -> list[Download]:
        """Send the global prompt."""
        return broadcast({"context": state}, cohort, round)

    def train(self, tasks: Sequence[ClientTask], privatizer: Privatizer) -> list[ClientResult]:
        """Tune the global prompt on the client's images, held back by the pull; keep nothing."""
        tuned = tune_sent(tasks, self.setting, privatizer, self._encoder, proximal=self.mu)
        return upload_all(tuned)

    def aggregate(self, state: Tensor, updates: Sequence[Update]) -> Tensor:
        """Average the prompts."""
        return average_or_keep(state, updates, "context", self.weighting)

    def predict(self, download: Download, local: Arrays | None, features: Arrays) -> Prediction:
        """Classify with the global prompt, the same for every client."""
        return classify(self._encoder, download.arrays["context"], self.setting, features["image"])

    def predict_global(self, state: Tensor, features: Arrays) -> Prediction:
        """Classify with the global prompt."""
        return classify(self._encoder, state, self.setting, features["image"])

    def to_arrays(self, state: Tensor) -> Arrays:
        """The global prompt."""
        return {"context": state}

    def from_arrays(self, arrays: Arrays) -> Tensor:
        """Inverse of `to_arrays`."""
        return arrays["context"]

    @cached_property
    def _encoder(self) -> PromptEncoder:
        return self.setting.backbone.prompt_encoder(self.setting.class_names, self.context_length)


METHOD = FedProx
