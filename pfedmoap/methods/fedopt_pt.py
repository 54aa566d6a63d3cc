"""FedOpt-PT: prompts moved by a server-side Adam (Reddi et al., ICLR 2021, arXiv 2003.00295).

Full title: "Adaptive Federated Optimization", by S. Reddi, Z. Charles, M. Zaheer, Z. Garrett, K.
Rush, J. Konecny, S. Kumar and H. B. McMahan, on the visual prompts of PFPT (arXiv 2502.19752),
whose baseline it is. The clients' average move away from what they were sent is the server's
negative gradient: ``m = b1 m + (1 - b1) move``, ``v = b2 v + (1 - b2) move^2`` and ``P = P +
server_learning_rate * m / (sqrt(v) + adaptivity)`` (Algorithm 2, FedAdam).

Where we depart: clients run Adam like those of the other methods here, where the paper's run SGD
(``optimiser="sgd"``); v starts at 0, where the paper starts at the square of its adaptivity or
more. With the paper's decays, 0.9 and 0.99, the first step is then of the size of the server's step
size.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from pfedmoap.aggregation import Weighting, average
from pfedmoap.errors import ConfigError
from pfedmoap.gradients import Mode, Privatizer
from pfedmoap.method import ArraySpec, ClientResult, ClientTask, Prediction, Setting
from pfedmoap.prompt_selection import Rule
from pfedmoap.prompt_sets import OptimiserName, PromptSets
from pfedmoap.prompt_tuning import broadcast, upload_all
from pfedmoap.set_elements import PROMPTS, Initial, Modality
from pfedmoap.types import Arrays, ClientId, Download, Update


@dataclass(frozen=True)
class ServerState:
    """What the server knows.

    Attributes:
        prompts: The global set, (n, ...).
        first: Decayed mean of the clients' average moves, (n, ...).
        second: Decayed mean of their squares, (n, ...).
    """

    prompts: Tensor
    first: Tensor
    second: Tensor


@dataclass(frozen=True)
class FedOptPT:
    """The method with its hyperparameters.

    Attributes:
        setting: The task.
        server_learning_rate: The server's step size.
        first_decay: Decay of the mean move (their beta_1).
        second_decay: Decay of the mean squared move (their beta_2).
        adaptivity: What keeps the denominator away from zero (their tau).
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
    server_learning_rate: float = 0.01
    first_decay: float = 0.9
    second_decay: float = 0.99
    adaptivity: float = 1e-3
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
        if self.server_learning_rate <= 0 or self.adaptivity <= 0:
            raise ConfigError(
                "fedopt_pt needs a positive server_learning_rate and adaptivity, got "
                f"{self.server_learning_rate} and {self.adaptivity}"
            )
        if not (0 <= self.first_decay < 1 and 0 <= self.second_decay < 1):
            raise ConfigError(
                "fedopt_pt needs decays of at least 0 and below 1, got "
                f"{self.first_decay} and {self.second_decay}"
            )
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

    def init(self) -> ServerState:
        """Start from one random set, at rest."""
        prompts = self._sets.elements.initial(self.prompts)[PROMPTS]
        return ServerState(prompts, torch.zeros_like(prompts), torch.zeros_like(prompts))

    def plan(self, state: ServerState, cohort: Sequence[ClientId], round: int) -> list[Download]:
        """Send the set."""
        return broadcast({PROMPTS: state.prompts}, cohort, round)

    def train(self, tasks: Sequence[ClientTask], privatizer: Privatizer) -> list[ClientResult]:
        """Train the set on the client's images; keep nothing."""
        return upload_all(self._sets.train(tasks, privatizer))

    def aggregate(self, state: ServerState, updates: Sequence[Update]) -> ServerState:
        """Take one step of Adam along the average move (Algorithm 2, FedAdam)."""
        if not updates:
            return state
        move = average(updates, PROMPTS, self.weighting) - state.prompts
        first = state.first.lerp(move, 1 - self.first_decay)
        second = state.second.lerp(move.square(), 1 - self.second_decay)
        step = self.server_learning_rate * first / (second.sqrt() + self.adaptivity)
        return ServerState(state.prompts + step, first, second)

    def predict(self, download: Download, local: Arrays | None, features: Arrays) -> Prediction:
        """Classify with the global set, the same for every client."""
        return self._sets.classify(download.arrays, features)

    def predict_global(self, state: ServerState, features: Arrays) -> Prediction:
        """Classify with the global set."""
        return self._sets.classify({PROMPTS: state.prompts}, features)

    def to_arrays(self, state: ServerState) -> Arrays:
        """The global set and the server's moments."""
        return {PROMPTS: state.prompts, "first": state.first, "second": state.second}

    def from_arrays(self, arrays: Arrays) -> ServerState:
        """Inverse of `to_arrays`."""
        return ServerState(arrays[PROMPTS], arrays["first"], arrays["second"])

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


METHOD = FedOptPT
