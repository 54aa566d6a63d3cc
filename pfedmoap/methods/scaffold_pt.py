"""SCAFFOLD-PT: prompts trained against client drift (Karimireddy et al., ICML 2020).

Full title: "SCAFFOLD: Stochastic Controlled Averaging for Federated Learning", by S. P.
Karimireddy, S. Kale, M. Mohri, S. J. Reddi, S. U. Stich and A. T. Suresh, arXiv 1910.06378, on the
visual prompts of PFPT (arXiv 2502.19752), whose baseline it is. Each client keeps a control variate
c_i, the server their mean c. A client's steps are ``P = P - lr (g + c - c_i)`` (eq. 3), and after S
steps from x to y it has ``c_i = c_i - c + (x - y) / (S lr)`` (eq. 4, option II).

As in the paper's comparison it trains with SGD, and wants a larger ``training.learning_rate`` than
the Adam of the others. Without momentum and weight decay, whatever the training's options say: the
formula for c_i holds for plain steps only.

Where we depart: c is the mean over the clients that have taken part, where the paper divides by all
clients; a server need not know how many more there are. Prompts are weighted by training-set size
like those of the other methods here, where the paper's mean is plain (``weighting="uniform"``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from pfedmoap.aggregation import Weighting, average
from pfedmoap.gradients import Mode, Privatizer
from pfedmoap.method import ArraySpec, ClientResult, ClientTask, Prediction, Setting
from pfedmoap.optimisers import SGD
from pfedmoap.prompt_selection import Rule
from pfedmoap.prompt_sets import PromptSets
from pfedmoap.prompt_tuning import Tuned, broadcast
from pfedmoap.set_elements import PROMPTS, Initial, Modality
from pfedmoap.types import Arrays, ClientId, Download, Update

CONTROL = "control"  # the server's on the wire; a client's own where it keeps it
CHANGE = "control_change"
CLIENTS = "clients"


@dataclass(frozen=True)
class ServerState:
    """What the server knows.

    Attributes:
        prompts: The global set, (n, ...).
        total: Sum of all clients' control variates, (n, ...).
        clients: Ids of the clients that have one, ascending, (N,) int64.
    """

    prompts: Tensor
    total: Tensor
    clients: Tensor

    @property
    def control(self) -> Tensor:
        """The server's control variate, their mean, (n, ...)."""
        return self.total / max(1, len(self.clients))


@dataclass(frozen=True)
class ScaffoldPT:
    """The method with its hyperparameters.

    Attributes:
        setting: The task.
        prompts: Prompts in the set.
        modality: ``visual`` tokens in a ViT, or whole ``text`` contexts for any backbone.
        initial: Where visual tokens start: around the ``class_token``, or at ``random``.
        context_length: Context vectors of one text context.
        context_init: Words to start text contexts from; none starts at random.
        selection: ``all`` uses all prompts for every image; ``batch`` and ``sample`` as in PFPT.
        chosen: Prompts that an image is classified with, unless all are.
        similarity_weight: Weight of the similarity in the loss, unless all prompts are used.
        weighting: ``examples`` weights clients by their training sets, ``uniform`` does not.
    """

    setting: Setting
    prompts: int = 20
    modality: Modality = "visual"
    initial: Initial = "class_token"
    context_length: int = 4
    context_init: str | None = None
    selection: Rule = "all"
    chosen: int = 10
    similarity_weight: float = 0.01
    weighting: Weighting = "examples"

    def __post_init__(self) -> None:
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
        """The change of a control variate starts from what only the client knows."""
        if mode == "release":
            return (
                "the change of a control variate has no public starting point that a move could "
                "be clipped around. Use mode joint"
            )
        return self._sets.privacy_gap(mode)

    @property
    def uploads(self) -> Mapping[str, ArraySpec]:
        """The set and the change of the client's control variate are uploaded."""
        prompts = self._sets.uploads(ArraySpec, self.prompts)
        return {**prompts, CHANGE: prompts[PROMPTS]}

    def init(self) -> ServerState:
        """Start from one random set, without corrections."""
        prompts = self._sets.elements.initial(self.prompts)[PROMPTS]
        return ServerState(prompts, torch.zeros_like(prompts), torch.zeros(0, dtype=torch.int64))

    def plan(self, state: ServerState, cohort: Sequence[ClientId], round: int) -> list[Download]:
        """Send the set and the server's control variate."""
        return broadcast({PROMPTS: state.prompts, CONTROL: state.control}, cohort, round)

    def train(self, tasks: Sequence[ClientTask], privatizer: Privatizer) -> list[ClientResult]:
        """Train with corrected gradients; keep the new control variate (option II)."""

        def correction(task: ClientTask) -> Tensor:
            return task.download.arrays[CONTROL] - own_control(task)

        tuned = self._sets.train(tasks, privatizer, correction=correction)
        return [self._result(client) for client in tuned]

    def aggregate(self, state: ServerState, updates: Sequence[Update]) -> ServerState:
        """Average the sets, and add up the changes of control variates."""
        if not updates:
            return state
        changes = average(updates, CHANGE, "uniform") * len(updates)
        known = {*state.clients.tolist(), *(update.client for update in updates)}
        return ServerState(
            average(updates, PROMPTS, self.weighting),
            state.total + changes,
            torch.tensor(sorted(known), dtype=torch.int64),
        )

    def predict(self, download: Download, local: Arrays | None, features: Arrays) -> Prediction:
        """Classify with the global set, the same for every client."""
        return self._sets.classify(download.arrays, features)

    def predict_global(self, state: ServerState, features: Arrays) -> Prediction:
        """Classify with the global set."""
        return self._sets.classify({PROMPTS: state.prompts}, features)

    def to_arrays(self, state: ServerState) -> Arrays:
        """The global set and the control variates' sum."""
        return {PROMPTS: state.prompts, "total": state.total, CLIENTS: state.clients}

    def from_arrays(self, arrays: Arrays) -> ServerState:
        """Inverse of `to_arrays`."""
        return ServerState(arrays[PROMPTS], arrays["total"], arrays[CLIENTS])

    def _result(self, client: Tuned) -> ClientResult:
        """Upload the set and the control variate's change (eq. 4, option II)."""
        sent, control = client.task.download.arrays, own_control(client.task)
        length = max(1, client.steps) * self.setting.training.learning_rate
        moved = (sent[PROMPTS] - client.params[PROMPTS]) / length
        new = control - sent[CONTROL] + moved
        return client.result({**client.params, CHANGE: new - control}, keeps={CONTROL: new})

    @cached_property
    def _sets(self) -> PromptSets:
        return PromptSets.make(
            self.setting,
            self.modality,
            rule=self.selection,
            chosen=self.chosen,
            similarity_weight=self.similarity_weight,
            optimiser=SGD(momentum=0.0),
            context_length=self.context_length,
            context_init=self.context_init,
            initial=self.initial,
        )


def own_control(task: ClientTask) -> Tensor:
    """The client's control variate before its round; zero for a newcomer."""
    if task.local is None:
        return torch.zeros_like(task.download.arrays[CONTROL])
    return task.local[CONTROL]


METHOD = ScaffoldPT
