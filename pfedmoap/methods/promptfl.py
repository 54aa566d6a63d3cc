"""PromptFL: the average of everybody's prompt (Guo et al., IEEE TMC 2024, arXiv 2208.11625).

Full title: "PromptFL: Let Federated Participants Cooperatively Learn Prompts Instead of Models --
Federated Learning in Age of Foundation Model", by T. Guo, S. Guo, J. Wang, X. Tang and W. Xu.

Each client starts from the global prompt, trains it on its own images and uploads it; the server
averages (FedAvg, arXiv 1602.05629). Everybody classifies with the new average.

Where we depart from the released code: the average is one of values, weighted by training-set size
as in FedAvg (the code collects references to one live tensor, so that its "average" is the
last client's prompt; ``uniform`` gives its unweighted mean); the step size is constant.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from pfedmoap.aggregation import Weighting
from pfedmoap.backbone.clip import PromptEncoder
from pfedmoap.gradients import Mode, Privatizer, gap_of_one_phase
from pfedmoap.method import ArraySpec, ClientResult, ClientTask, Prediction, Setting
from pfedmoap.prompt_tuning import average_or_keep, broadcast, classify, tune_sent, upload_all
from pfedmoap.prompts import initial_context
from pfedmoap.types import Arrays, ClientId, Download, Update


@dataclass(frozen=True)
class PromptFL:
    """The method with its hyperparameters.

    Attributes:
        setting: The task.
        context_length: Context vectors L.
        context_init: Words to start the context from; none draws it at random.
        weighting: ``examples`` weights clients by their training sets, ``uniform`` does not.
    """

    setting: Setting
    context_length: int = 16
    context_init: str | None = None
    weighting: Weighting = "examples"

    @property
    def trains(self) -> bool:
        """Learns in rounds."""
        return True

    @property
    def features(self) -> tuple[str, ...]:
        """Needs one global feature an image."""
        return ("image",)

    def privacy_gap(self, mode: Mode) -> str | None:
        """The prompt is all it trains."""
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
        """Tune the global prompt on the client's images; keep nothing."""
        return upload_all(tune_sent(tasks, self.setting, privatizer, self._encoder))

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


METHOD = PromptFL
