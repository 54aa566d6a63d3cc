"""FedProx-PT: FedAvg-PT with a pull towards the global prompts (Li et al., MLSys 2020).

Full title: "Federated Optimization in Heterogeneous Networks", by T. Li, A. K. Sahu, M. Zaheer, M.
Sanjabi, A. Talwalkar and V. Smith, arXiv 1812.06127, on the visual prompts of PFPT (arXiv
2502.19752), whose baseline it is. Clients minimise their loss plus ``mu / 2 ||P - P_g||^2`` (eq.
2), where P_g is the set that they received this round.

Where we depart: PFPT does not state its mu; ours is small, since Adam feels a pull where SGD with
small gradients does not: with the 0.5 of our `fedprox` tokens hardly leave their start. A pull
moves no prompt that is where it was sent, so that prompts without use stay exact copies.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from pfedmoap.aggregation import Weighting
from pfedmoap.errors import ConfigError
from pfedmoap.gradients import Mode, Privatizer
from pfedmoap.method import ArraySpec, ClientResult, ClientTask, Prediction, Setting
from pfedmoap.prompt_selection import Rule
from pfedmoap.prompt_sets import OptimiserName, PromptSets
from pfedmoap.prompt_tuning import average_or_keep, broadcast, upload_all
from pfedmoap.set_elements import PROMPTS, Initial, Modality
from pfedmoap.types import Arrays, ClientId, Download, Update


@dataclass(frozen=True)
class FedProxPT:
    """The method with its hyperparameters.

    Attributes:
        setting: The task.
        mu: Weight of the pull; 0 is FedAvg-PT.
        prompts: Prompts in the set.
        modality: ``visual`` tokens in a ViT, or whole ``text`` contexts for any backbone.
        initial: Where visual tokens start: around the ``class_token``, or at ``random``.
        context_length: Context vectors of one text context.
        context_init: Words to start text contexts from; none starts at random.
        selection: ``all`` uses all prompts for every image; ``batch`` and ``sample`` as in PFPT.
        chosen: Prompts that an image is classified with, unless all are.
        similarity_weight: Weight of the similarity in the loss, unless all prompts are used.
        optimiser: The clients' ``adam``, or ``sgd`` with the training's momentum.
        weighting: ``examples`` weights clients by their training sets, ``uniform`` does not.
    """

    setting: Setting
    mu: float = 0.01
    prompts: int = 20
    modality: Modality = "visual"
    initial: Initial = "class_token"
    context_length: int = 4
    context_init: str | None = None
    selection: Rule = "all"
    chosen: int = 10
    similarity_weight: float = 0.01
    optimiser: OptimiserName = "adam"
    weighting: Weighting = "examples"

    def __post_init__(self) -> None:
        if self.mu < 0:
            raise ConfigError(f"mu must be 0 or more, got {self.mu}")
        self._sets  # noqa: B018  # raises what is wrong with the options before any work

    @property
    def trains(self) -> bool:
        """Learns in rounds."""
        return True

    @property
    def features(self) -> tuple[str, ...]:
        """Needs a ViT's tokens and class token, or one global feature an image."""
        return self._sets.elements.features

    def privacy_gap(self, mode: Mode) -> str | None:
        """Images that vote for prompts have no gradient of their own."""
        return self._sets.privacy_gap(mode)

    @property
    def uploads(self) -> Mapping[str, ArraySpec]:
        """The set is uploaded."""
        return self._sets.uploads(ArraySpec, self.prompts)

    def init(self) -> Tensor:
        """Start from one random set (n, ...)."""
        return self._sets.elements.initial(self.prompts)[PROMPTS]

    def plan(self, state: Tensor, cohort: Sequence[ClientId], round: int) -> list[Download]:
        """Send the set."""
        return broadcast({PROMPTS: state}, cohort, round)

    def train(self, tasks: Sequence[ClientTask], privatizer: Privatizer) -> list[ClientResult]:
        """Train the set on the client's images, held back by the pull; keep nothing."""
        return upload_all(self._sets.train(tasks, privatizer, proximal=self.mu))

    def aggregate(self, state: Tensor, updates: Sequence[Update]) -> Tensor:
        """Average the sets, prompt by prompt."""
        return average_or_keep(state, updates, PROMPTS, self.weighting)

    def predict(self, download: Download, local: Arrays | None, features: Arrays) -> Prediction:
        """Classify with the global set, the same for every client."""
        return self._sets.classify(download.arrays, features)

    def predict_global(self, state: Tensor, features: Arrays) -> Prediction:
        """Classify with the global set."""
        return self._sets.classify({PROMPTS: state}, features)

    def to_arrays(self, state: Tensor) -> Arrays:
        """The global set."""
        return {PROMPTS: state}

    def from_arrays(self, arrays: Arrays) -> Tensor:
        """Inverse of `to_arrays`."""
        return arrays[PROMPTS]

    @cached_property
    def _sets(self) -> PromptSets:
        return PromptSets.make(
            self.setting,
            self.modality,
            rule=self.selection,
            chosen=self.chosen,
            similarity_weight=self.similarity_weight,
            optimiser=self.optimiser,
            context_length=self.context_length,
            context_init=self.context_init,
            initial=self.initial,
        )


METHOD = FedProxPT
