"""The base of methods whose server averages a prompt: PromptFL's round, step by step.

The round is that of FedAvg (McMahan et al., AISTATS 2017, arXiv 1602.05629, Algorithm 1) on the
context vectors of CoOp (Zhou et al., IJCV 2022, arXiv 2109.01134).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

import torch
from torch import Tensor

from pfedmoap.client.privatizer import (
    Mode,
    Privatizer,
    gap_of_averaging,
    gap_of_one_phase,
)
from pfedmoap.config.bounds import Bounds, check_options
from pfedmoap.contract.batch_size import encoded_at_once
from pfedmoap.contract.folding import Folded, refuse_to_fold
from pfedmoap.contract.predicting import ManyModels, PredictionTask, same_arrays
from pfedmoap.contract.stacking import TrainedClient, stack
from pfedmoap.contract.tasks import ArraySpec, ClientResult, ClientTask, Prediction, Setting
from pfedmoap.contract.unread_options import gap_where_replaced
from pfedmoap.models.clip.clip import PromptEncoder
from pfedmoap.models.clip.tokens import ClassPosition
from pfedmoap.prompts.layout import PromptLayout
from pfedmoap.prompts.tuning import PromptProblem, broadcast, tune
from pfedmoap.server.aggregation import Weighting, combine
from pfedmoap.wire.messages import Arrays, ClientId, Download, Update


@dataclass(frozen=True)
class AveragedPrompt:
    """A prompt that clients train from the server's values, and that the server averages.

    The server's state is named tensors. Clients are sent those that ``uploads`` names, train them
    together with those that ``own`` names, upload the former and keep the latter.

    Attributes:
        setting: Backbone, classes, training options and seed.
        context_length: Context vectors L.
        context_init: Words to start the context from; none draws it at random.
        weighting: ``examples`` weights clients by their training sets, ``uniform`` does not.
        class_position: Where the class name stands: at the ``end`` of the context, in its
            ``middle``, or in ``front`` of it.
        class_specific: Whether each class has context vectors of its own.
    """

    setting: Setting
    context_length: Annotated[int, Bounds(ge=1, le=1024)] = 16
    context_init: str | None = None
    weighting: Weighting = "examples"
    class_position: ClassPosition = "end"
    class_specific: bool = False

    def __post_init__(self) -> None:
        check_options(self, "method")
        self.layout.check(self.features)

    @property
    def trains(self) -> bool:
        """Learns in rounds."""
        return True

    @property
    def features(self) -> tuple[str, ...]:
        """Needs one global feature an image."""
        return ("image",)

    def privacy_gap(self, mode: Mode) -> str | None:
        """See `HasPrivacyAnalysis`: private steps train all parameters, and the server averages."""
        kind = type(self)
        ours = (kind.plan, kind.aggregate) == (AveragedPrompt.plan, AveragedPrompt.aggregate)
        return gap_of_averaging(mode) if ours else gap_of_one_phase(mode)

    @property
    def uploads(self) -> dict[str, ArraySpec]:
        """The prompt is uploaded."""
        return {"context": ArraySpec((self.layout.rows, self.setting.backbone.text_width))}

    @property
    def own(self) -> Arrays:
        """Initial values of the parameters that stay on a client, by name, on the CPU."""
        return {}

    def compose(self, params: Arrays) -> Tensor:
        """Assemble K clients' prompts from their parts: (K, L, W), or (K, P, L, W) for P each."""
        return params["context"]

    def problem(self, start: Arrays) -> PromptProblem:
        """Make the local problem of K clients that train from ``start``, each (K, ...)."""
        return PromptProblem(self.encoder, self.setting.backbone.logit_scale, self.compose)

    def init(self) -> Arrays:
        """Start from one prompt (L, W)."""
        return {"context": self.initial_context}

    def plan(self, state: Arrays, cohort: Sequence[ClientId], round: int) -> list[Download]:
        """Send all clients the same arrays."""
        return broadcast({name: state[name] for name in self.uploads}, cohort, round)

    def train(self, tasks: Sequence[ClientTask], privatizer: Privatizer) -> list[ClientResult]:
        """Train the sent parameters together with those that the client keeps."""

        def begin(batch: list[ClientTask]) -> tuple[PromptProblem, Arrays]:
            parts = [self.parts(task.download, task.local) for task in batch]
            start = stack(parts, self.setting.backbone.device)
            return self.problem(start), start

        return [self.divide(each) for each in tune(tasks, self.setting, privatizer, begin)]

    def parts(self, download: Download, local: Arrays | None) -> dict[str, Tensor]:
        """Collect the parts of a client's prompt: those sent, and those kept or initial."""
        kept = self.own if local is None else local
        sent = {name: download.arrays[name] for name in self.uploads}
        return sent | {name: kept[name] for name in self.own}

    def divide(self, client: TrainedClient) -> ClientResult:
        """Split the trained parameters into those that are uploaded and those that are kept."""
        uploads = {name: client.params[name] for name in self.uploads}
        return client.result(uploads, keeps={name: client.params[name] for name in self.own})

    def aggregate(self, state: Arrays, updates: Sequence[Update]) -> Arrays:
        """Average what was uploaded."""
        return combine(state, updates, self.weighting, self.setting.server)

    def aggregation_gap(self) -> str | None:
        """See `AveragesByRule`."""
        return gap_where_replaced(self, AveragedPrompt)

    def prompt_of(self, download: Download, local: Arrays | None) -> Arrays:
        """Collect the parts of the prompt that a client classifies with; see `parts`."""
        return self.parts(download, local)

    def predict(self, download: Download, local: Arrays | None, features: Arrays) -> Prediction:
        """Classify with the parameters that the server would send now and those that are kept."""
        return self.classify(self.prompt_of(download, local), features)

    def predict_together(self, tasks: Iterable[PredictionTask]) -> Iterator[Prediction]:
        """See `CanPredictTogether`: equal prompts are encoded once, others side by side."""
        if type(self).classify is not AveragedPrompt.classify:
            return (self.predict(each.download, each.local, each.features) for each in tasks)
        device, size = self.setting.backbone.device, encoded_at_once(self.setting)

        def answer(batch: Sequence[PredictionTask], features: Arrays) -> tuple[Tensor, None]:
            start = stack([self.prompt_of(task.download, task.local) for task in batch], device)
            problem = self.problem(start)
            return problem.logits(problem.encode(start), features), None

        return ManyModels(
            kinds=self.features,
            device=device,
            classify=answer,
            model=lambda task: same_arrays(self.prompt_of(task.download, task.local)),
            at_most=lambda _: size,
        ).predict(tasks)

    def predict_global(self, state: Arrays, features: Arrays) -> Prediction | None:
        """Classify with what the server averages; ``None`` if prompts have local parts."""
        if self.own:
            return None
        return self.classify({name: state[name] for name in self.uploads}, features)

    def predict_sent(self, download: Download, features: Arrays) -> Prediction | None:
        """See `SendsGlobalModel`: downloads have the state's names."""
        return self.predict_global(download.arrays, features)

    def to_arrays(self, state: Arrays) -> Arrays:
        """The server's state."""
        return dict(state)

    def from_arrays(self, arrays: Arrays) -> Arrays:
        """Inverse of `to_arrays`."""
        return dict(arrays)

    @torch.no_grad()
    def classify(self, parts: Arrays, features: Arrays) -> Prediction:
        """Classify images, by kind (B, ...), with one prompt's parts."""
        device = self.setting.backbone.device
        problem, text = self.encoded(parts)
        images = {kind: features[kind].to(device) for kind in self.features}
        return Prediction(problem.logits(text, images))

    @torch.no_grad()
    def fold(self, download: Download, local: Arrays | None) -> Folded:
        """See `CanFold`: class features, where the local problem's logits are plain cosines."""
        problem, text = self.encoded(self.prompt_of(download, local))
        if type(problem).logits is not PromptProblem.logits:
            refuse_to_fold(f"{type(self).__name__} has logits of its own and no `fold` for them")
        return Folded("cosine", {"scale": problem.scale}, {"text": text})

    def encoded(self, parts: Arrays) -> tuple[PromptProblem, Tensor]:
        """Encode one client's prompt: its local problem, and class features (C, D) or (P, C, D)."""
        one = stack([parts], self.setting.backbone.device)
        problem = self.problem(one)
        return problem, problem.encode(one)[0]

    @cached_property
    def initial_context(self) -> Tensor:
        """The initial prompt of all clients, (L, W), or (C L, W), on the CPU."""
        return self.layout.initial(self.setting.seed).cpu()

    @cached_property
    def encoder(self) -> PromptEncoder:
        """From contexts (K, L, W) to class features (K, C, D)."""
        return self.layout.encoder()

    @property
    def layout(self) -> PromptLayout:
        """The form of the prompt."""
        return PromptLayout(
            self.setting,
            self.context_length,
            self.context_init,
            self.class_position,
            self.class_specific,
        )

    def class_bond(self) -> str | None:
        """See `IsBoundToClasses`."""
        return self.layout.class_bond()
