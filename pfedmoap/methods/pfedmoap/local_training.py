"""A client's round in pFedMoAP: prompt and gate together, or the gate after the prompt."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from pfedmoap.client.privatizer import Privatizer
from pfedmoap.client.problem import Problem
from pfedmoap.client.schedules import Schedule
from pfedmoap.contract.stacking import TrainedClient, stack_rows
from pfedmoap.contract.tasks import ClientResult, ClientTask, Setting
from pfedmoap.methods.pfedmoap.decoupled_gates import with_gates
from pfedmoap.methods.pfedmoap.gates import stack_gates
from pfedmoap.methods.pfedmoap.mixture import Mixture, MixtureProblem
from pfedmoap.methods.pfedmoap.served_experts import (
    ClassFeatures,
    expert_count,
    held_experts,
    stack_experts,
)
from pfedmoap.models.clip.clip import PromptEncoder
from pfedmoap.prompts.tuning import PromptProblem, tune
from pfedmoap.wire.messages import Arrays

Start = Literal["global", "own"]


@dataclass(frozen=True)
class LocalTraining:
    """How clients train.

    Attributes:
        setting: Backbone, classes, training options and seed.
        encoder: From contexts (E, L, W) to class features (E, C, D).
        mixture: The gate's form.
        initial_gate: The gate that clients start from, by name.
        gate_uploaded: Whether gates are uploaded beside the prompt.
        start: Begin from the ``global`` prompt or the client's ``own`` last one.
        gate_learning_rate: Step size of the gate, the largest one where it has a schedule.
        gate_time: How it changes.
    """

    setting: Setting
    encoder: PromptEncoder
    mixture: Mixture
    initial_gate: Arrays
    gate_uploaded: bool
    start: Start
    gate_learning_rate: float
    gate_time: Schedule

    def train(
        self, tasks: Sequence[ClientTask], privatizer: Privatizer, features: ClassFeatures
    ) -> list[ClientResult]:
        """Train a round's clients; see `PFedMoAP.train`.

        Args:
            tasks: The clients' tasks.
            privatizer: How gradients are formed, and whether the gate is decoupled.
            features: Class features (C, D) of the experts that each was served.
        """

        def begin(batch: list[ClientTask]) -> tuple[Problem, Arrays]:
            context = self._starting_contexts(batch)
            if privatizer.decoupled or expert_count(batch[0]) is None:
                problem = PromptProblem(self.encoder, self.setting.backbone.logit_scale)
                return problem, {"context": context}
            experts = stack_experts(batch, features, self.setting)
            mixture = MixtureProblem(self.encoder, self.mixture, experts)
            return mixture, {"context": context, **self._gates(batch)}

        rates = dict.fromkeys(self.initial_gate, self.gate_learning_rate)
        time = self.gate_time
        tuned = tune(
            tasks,
            self.setting,
            privatizer,
            begin,
            key=expert_count,
            learning_rates=rates,
            schedules=dict.fromkeys(rates, time),
        )
        if privatizer.decoupled:
            tuned = with_gates(
                tuned, features, self.encoder, self.mixture, self._gates, self.setting, rates, time
            )
        return [self._result(client) for client in tuned]

    def _starting_contexts(self, tasks: Sequence[ClientTask]) -> Tensor:
        """Stack what the clients start from, (K, L, W)."""
        sources = [task.download.arrays for task in tasks]
        if self.start == "own":
            sources = [{**s, **(task.local or {})} for s, task in zip(sources, tasks, strict=True)]
        return stack_rows([s["context"] for s in sources], self.setting.backbone.device)

    def _gates(self, tasks: Sequence[ClientTask]) -> dict[str, Tensor]:
        device = self.setting.backbone.device
        return stack_gates(tasks, self.initial_gate, self.gate_uploaded, device)

    def _result(self, client: TrainedClient) -> ClientResult:
        """Upload the prompt, and the gate where it is averaged; keep the rest."""
        task = client.task
        sent = task.download.arrays
        shared = self.initial_gate if self.gate_uploaded else {}
        known = {**sent, **client.params}
        uploads = {name: known[name] for name in ("context", *shared)}
        trained = {n: v for n, v in client.params.items() if n not in shared}
        return client.result(uploads, keeps={**(task.local or {}), **held_experts(sent), **trained})
