"""FedOTP: a shared and an own prompt, matched to image patches by optimal transport (CVPR 2024).

Full title: "Global and Local Prompts Cooperation via Optimal Transport for Federated Learning", by
H. Li, W. Huang, J. Wang and Y. Shi, arXiv 2403.00041. Each client has a global context, averaged
by the server, and a local one that never leaves it. For an image and a class c, a transport plan T
(M x 2) moves ``mass`` of the image's M local features to the class features of the two prompts at
cost 1 - cosine (eq. 7-9); the logit is ``s sum(T * cosine)``. The plan carries no gradient.

Defaults are the released ones: mass 0.8, entropy 0.1 (0.01 for few-shot data), at most 100
iterations; it trains with a step size of 0.001, set by ``training.learning_rate``. As there,
clients are evaluated after the round with the new global context and their own local one.

Where we depart: the iterations are always as many as asked for, where the released code stops when
a whole batch has converged, which would let an image's result depend on the others in its batch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from pfedmoap.aggregation import Weighting
from pfedmoap.backbone.clip import PromptEncoder
from pfedmoap.cohorts import stack_arrays
from pfedmoap.gradients import Mode, Privatizer, gap_of_one_phase
from pfedmoap.method import ArraySpec, ClientResult, ClientTask, Prediction, Setting
from pfedmoap.optimal_transport import transport_plan
from pfedmoap.prompt_tuning import average_or_keep, broadcast, cross_entropy, tune
from pfedmoap.prompts import initial_context
from pfedmoap.seeding import derive_seed
from pfedmoap.types import Arrays, ClientId, Download, Update


@dataclass(frozen=True)
class Transport:
    """How local features are matched to prompts; see `transport_plan`.

    Attributes:
        mass: How much of an image is moved, in (0, 1].
        entropy: Weight of the entropy.
        iterations: Rounds of scaling.
    """

    mass: float
    entropy: float
    iterations: int

    def scores(self, patches: Tensor, text: Tensor) -> Tensor:
        """Sum the cosines that the plan selects.

        Args:
            patches: Unit-norm local features, (..., B, M, D).
            text: Unit-norm class features of P prompts, (..., P, C, D).

        Returns:
            Scores before the logit scale, (..., B, C).
        """
        prompts, classes = text.shape[-3:-1]
        flat = text.flatten(-3, -2).unsqueeze(-3)  # (..., 1, P C, D)
        cosine = (patches @ flat.mT).unflatten(-1, (prompts, classes))  # (..., B, M, P, C)
        cosine = cosine.movedim(-1, -3)  # (..., B, C, M, P)
        plan = transport_plan(1 - cosine.detach(), self.mass, self.entropy, self.iterations)
        selected: Tensor = (plan * cosine).sum((-2, -1))
        return selected


@dataclass(frozen=True)
class TransportProblem:
    """Cross-entropy of the transported cosines of K clients' two prompts.

    Attributes:
        encoder: From contexts (E, L, W) to class features (E, C, D).
        scale: Logit scale.
        transport: The matching.
    """

    encoder: PromptEncoder
    scale: float
    transport: Transport

    def represent(self, params: Arrays) -> Arrays:
        """Encode both prompts of each client in one pass, to (K, 2, C, D)."""
        contexts = torch.stack([params["context"], params["own"]], dim=1)  # (K, 2, L, W)
        return {"text": self.encoder(contexts.flatten(0, 1)).unflatten(0, (-1, 2))}

    def losses(self, params: Arrays, shared: Arrays, features: Arrays, labels: Tensor) -> Tensor:
        """Cross-entropy over all classes, (K, B)."""
        scores = self.transport.scores(features["patches"], shared["text"])
        return cross_entropy(self.scale * scores, labels)

    def penalty(self, params: Arrays) -> Tensor:
        """No regulariser."""
        return params["context"].new_zeros(len(params["context"]))


@dataclass(frozen=True)
class FedOTP:
    """The method with its hyperparameters; defaults are the paper's.

    Attributes:
        setting: The task.
        mass: How much of an image is matched (their gamma).
        entropy: Weight of the entropy in the transport problem (their lambda).
        iterations: Rounds of scaling that solve it.
        context_length: Context vectors L of each of the two prompts.
        context_init: Words to start both contexts from; none draws each at random.
        weighting: ``examples`` weights clients by their training sets, ``uniform`` does not.
    """

    setting: Setting
    mass: float = 0.8
    entropy: float = 0.1
    iterations: int = 100
    context_length: int = 16
    context_init: str | None = None
    weighting: Weighting = "examples"

    def __post_init__(self) -> None:
        self.setting.backbone.require_features(self.features)
        transport_plan(torch.zeros(1, 1), self.mass, self.entropy, self.iterations)

    @property
    def trains(self) -> bool:
        """Learns in rounds."""
        return True

    @property
    def features(self) -> tuple[str, ...]:
        """Needs the local features of an image."""
        return ("patches",)

    def privacy_gap(self, mode: Mode) -> str | None:
        """Both contexts are in the private step."""
        return gap_of_one_phase(mode)

    @property
    def uploads(self) -> Mapping[str, ArraySpec]:
        """Only the global context is uploaded."""
        return {"context": ArraySpec((self.context_length, self.setting.backbone.text_width))}

    def init(self) -> Tensor:
        """Start from one global context (L, W)."""
        return self._initial(self.setting.seed).cpu()

    def plan(self, state: Tensor, cohort: Sequence[ClientId], round: int) -> list[Download]:
        """Send the global context."""
        return broadcast({"context": state}, cohort, round)

    def train(self, tasks: Sequence[ClientTask], privatizer: Privatizer) -> list[ClientResult]:
        """Tune both contexts; upload the global one and keep the other."""

        def begin(batch: list[ClientTask]) -> tuple[TransportProblem, Arrays]:
            device = self.setting.backbone.device
            context = stack_arrays(batch, "context", device)
            own = torch.stack([self._own(task.local).to(device) for task in batch])
            return self._problem, {"context": context, "own": own}

        return [
            client.result(
                {"context": client.params["context"]}, keeps={"own": client.params["own"]}
            )
            for client in tune(tasks, self.setting, privatizer, begin)
        ]

    def aggregate(self, state: Tensor, updates: Sequence[Update]) -> Tensor:
        """Average the global contexts."""
        return average_or_keep(state, updates, "context", self.weighting)

    @torch.no_grad()
    def predict(self, download: Download, local: Arrays | None, features: Arrays) -> Prediction:
        """Classify with the global context as it is now and the client's own."""
        device = self.setting.backbone.device
        context = {"context": download.arrays["context"], "own": self._own(local)}
        problem = self._problem
        text = problem.represent({name: value[None].to(device) for name, value in context.items()})
        scores = problem.transport.scores(features["patches"].to(device), text["text"][0])
        return Prediction(problem.scale * scores)

    def predict_global(self, state: Tensor, features: Arrays) -> None:
        """There is no global model: without an own prompt there is nothing to match."""

    def to_arrays(self, state: Tensor) -> Arrays:
        """The global context."""
        return {"context": state}

    def from_arrays(self, arrays: Arrays) -> Tensor:
        """Inverse of `to_arrays`."""
        return arrays["context"]

    def _own(self, local: Arrays | None) -> Tensor:
        return self._initial_own if local is None else local["own"]

    def _initial(self, seed: int) -> Tensor:
        return initial_context(
            self.setting.backbone, self.context_length, self.context_init, seed=seed
        )

    @cached_property
    def _initial_own(self) -> Tensor:
        return self._initial(derive_seed(self.setting.seed, "own context"))

    @cached_property
    def _problem(self) -> TransportProblem:
        backbone = self.setting.backbone
        return TransportProblem(
            backbone.prompt_encoder(self.setting.class_names, self.context_length),
            backbone.logit_scale,
            Transport(self.mass, self.entropy, self.iterations),
        )


METHOD = FedOTP
