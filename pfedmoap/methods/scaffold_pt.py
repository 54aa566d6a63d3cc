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

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from pfedmoap.client.optimisers import SGD
from pfedmoap.client.privatizer import Mode
from pfedmoap.config.recommended import Recommended
from pfedmoap.contract.stacking import TrainedClient, stack_rows
from pfedmoap.contract.tasks import ArraySpec, ClientResult, ClientTask
from pfedmoap.errors import ConfigError
from pfedmoap.methods.prompt_set import PromptSet
from pfedmoap.prompts.set_elements import PROMPTS
from pfedmoap.prompts.set_tuning import OptimiserName, PromptSetProblem, SetOptions
from pfedmoap.prompts.tuning import broadcast
from pfedmoap.server.aggregation import combine
from pfedmoap.wire.messages import Arrays, ClientId, Download, Update

CONTROL = "control"  # the server's on the wire; a client's own where it keeps it
CHANGE = "control_change"
TOTAL, CLIENTS = "total", "clients"  # the sum of all control variates, and whose they are


@dataclass(frozen=True)
class ScaffoldPT(PromptSet):
    """The method with its hyperparameters; see `PromptSet`."""

    recommended: ClassVar[Recommended] = {"training": {"batch_size": 16}}

    optimiser: OptimiserName = field(default="sgd", init=False)  # no option: plain steps alone

    def privacy_gap(self, mode: Mode) -> str | None:
        """See `HasPrivacyAnalysis`: a control variate's change starts from local state."""
        if mode == "release":
            return (
                "the change of a control variate has no public starting point that a move could "
                "be clipped around. Use mode joint"
            )
        if mode == "central":
            return (
                "the change of a control variate has no public starting point, and the server adds "
                "changes up instead of averaging. Use `--privacy dpsgd`, or a method that "
                "averages, e.g. fedavg_pt"
            )
        return super().privacy_gap(mode)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.setting.training.over_time.changes:
            raise ConfigError(
                "control variates of scaffold_pt are formed for a constant step size: use "
                "training.schedule constant and training.warm_up 0"
            )

    @property
    def uploads(self) -> dict[str, ArraySpec]:
        """The set and the change of the client's control variate are uploaded."""
        prompts = super().uploads
        return {**prompts, CHANGE: prompts[PROMPTS]}

    @property
    def options(self) -> SetOptions:
        """The formula for control variates holds for steps without momentum."""
        return replace(super().options, optimiser=SGD(momentum=0.0))

    def init(self) -> Arrays:
        """Start from one random set, without corrections."""
        start = super().init()
        nobody = torch.zeros(0, dtype=torch.int64)
        return {**start, TOTAL: torch.zeros_like(start[PROMPTS]), CLIENTS: nobody}

    def plan(self, state: Arrays, cohort: Sequence[ClientId], round: int) -> list[Download]:
        """Send the set and the server's control variate."""
        return broadcast({PROMPTS: state[PROMPTS], CONTROL: control(state)}, cohort, round)

    def problem(self, tasks: Sequence[ClientTask], start: Arrays) -> PromptSetProblem:
        """Correct gradients by the server's control variate minus the client's."""
        corrections = [task.download.arrays[CONTROL] - own_control(task) for task in tasks]
        stacked = stack_rows(corrections, start[PROMPTS].device)
        return replace(super().problem(tasks, start), correction=stacked)

    def divide(self, client: TrainedClient) -> ClientResult:
        """Upload the set and the control variate's change (eq. 4, option II); keep the new one."""
        sent, old = client.task.download.arrays, own_control(client.task)
        length = max(1, client.steps) * self.setting.training.learning_rate
        moved = (sent[PROMPTS] - client.params[PROMPTS]) / length
        new = old - sent[CONTROL] + moved
        return client.result({**client.params, CHANGE: new - old}, keeps={CONTROL: new})

    def aggregate(self, state: Arrays, updates: Sequence[Update]) -> Arrays:
        """Average the sets, and add up the changes of control variates."""
        if not updates:
            return state
        rule = self.setting.server
        still = {CHANGE: torch.zeros_like(state[TOTAL])}
        changes = combine(still, updates, "uniform", rule)[CHANGE] * len(updates)
        known = {*state[CLIENTS].tolist(), *(update.client for update in updates)}
        return {
            **combine({PROMPTS: state[PROMPTS]}, updates, self.weighting, rule),
            TOTAL: state[TOTAL] + changes,
            CLIENTS: torch.tensor(sorted(known), dtype=torch.int64),
        }

    def aggregation_gap(self) -> str | None:
        """See `AveragesByRule`: sets and changes of control variates are each averaged so."""
        return None


def control(state: Arrays) -> Tensor:
    """The server's control variate, the mean of the clients', (n, ...)."""
    return state[TOTAL] / max(1, len(state[CLIENTS]))


def own_control(task: ClientTask) -> Tensor:
    """The client's control variate before its round; zero for a newcomer."""
    if task.local is None:
        return torch.zeros_like(task.download.arrays[CONTROL])
    return task.local[CONTROL]


METHOD = ScaffoldPT
