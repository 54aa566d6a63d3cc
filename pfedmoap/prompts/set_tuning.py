"""Train and classify with a set of prompts, for PFPT and its prompt-tuning baselines."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from pfedmoap.client.batches import Batch
from pfedmoap.client.optimisers import SGD, Adam, Optimiser
from pfedmoap.client.privatizer import Mode, Privatizer, gap_of_one_phase
from pfedmoap.client.problem import OF_CLIENTS, Problem
from pfedmoap.contract.folding import Folded, Scalar
from pfedmoap.contract.stacking import TrainedClient, stack_arrays
from pfedmoap.contract.tasks import ArraySpec, ClientTask, Prediction, Setting
from pfedmoap.errors import ConfigError
from pfedmoap.models.clip.tokens import ClassPosition
from pfedmoap.models.logits import cross_entropy
from pfedmoap.prompts.set_elements import (
    PROMPTS,
    Elements,
    Initial,
    Modality,
    TextContexts,
    VisualTokens,
)
from pfedmoap.prompts.set_selection import Rule, Selection, cosine
from pfedmoap.prompts.tuning import tune
from pfedmoap.wire.messages import Arrays

OptimiserName = Literal["adam", "sgd"]
_IMAGES_AT_ONCE = 256


@dataclass(frozen=True)
class PromptSetProblem(Problem):
    """Cross-entropy of K clients' prompt sets, with optional proximal and correction terms.

    The loss of an image is ``CE + similarity_weight * sum_j cos(query, key_j)`` over its chosen
    prompts j (PFPT's loss, after L2P). Under the rule ``all`` there is no such sum.

    Attributes:
        elements: How a set enters the model.
        selection: Which prompts an image uses.
        similarity_weight: Weight of the similarity. Positive, as in PFPT, pushes prompts away from
            the queries that chose them; negative pulls them, as in L2P.
        proximal: Weight mu of ``mu / 2 ||P - anchor||^2``.
        anchor: Centre of the proximal term, (K, n, ...); ``None`` for no such term.
        correction: Added to the prompts' gradient, (K, n, ...); ``None`` for nothing.
    """

    elements: Elements
    selection: Selection
    similarity_weight: float
    proximal: float = 0.0
    anchor: Tensor | None = field(default=None, metadata=OF_CLIENTS)
    correction: Tensor | None = field(default=None, metadata=OF_CLIENTS)

    def represent(self, params: Arrays) -> Arrays:
        """Compute what images share."""
        return self.elements.represent(params)

    def settle(self, params: Arrays, shared: Arrays, batch: Batch) -> Arrays:
        """Select a batch's prompts by its images' votes; see `BatchWide.settle`."""
        if self.selection.rule != "batch":
            return {}
        similarity = self._similarity(params, shared, batch.features)
        return {"chosen": self.selection.elected(similarity, batch.weight > 0)}  # (K, k)

    def losses(self, params: Arrays, shared: Arrays, features: Arrays, labels: Tensor) -> Tensor:
        """One loss an image, (K, B)."""
        similarity = self._similarity(params, shared, features)  # (K, B, n)
        if "chosen" in shared:
            elected = shared["chosen"][:, None]
            chosen = elected.expand(-1, similarity.shape[1], -1)
        else:
            chosen = self.selection.nearest(similarity)
        each = cross_entropy(self.elements.logits(params, shared, features, chosen), labels)
        if self.selection.rule == "all":
            return each
        return each + self.similarity_weight * similarity.gather(-1, chosen).sum(-1)

    def penalty(self, params: Arrays) -> Tensor:
        """Compute the proximal term, and a linear term whose gradient is the correction, (K,)."""
        prompts = params[PROMPTS]
        total = prompts.new_zeros(len(prompts))
        if self.anchor is not None:
            moved = (prompts - self.anchor).pow(2).flatten(1).sum(1)
            total = total + self.proximal / 2 * moved
        if self.correction is not None:
            total = total + (prompts * self.correction).flatten(1).sum(1)
        return total

    def logits(self, params: Arrays, features: Arrays) -> Tensor:
        """Classify, each image with its own nearest prompts, (K, B, C)."""
        shared = self.represent(params)
        chosen = self.selection.nearest(self._similarity(params, shared, features))
        return self.elements.logits(params, shared, features, chosen)

    def _similarity(self, params: Arrays, shared: Arrays, features: Arrays) -> Tensor:
        queries = self.elements.queries(params, features)
        return cosine(queries, self.elements.keys(params, shared))


@dataclass(frozen=True)
class SetOptions:
    """How sets of prompts are made, chosen from and trained.

    Attributes:
        modality: ``visual`` tokens or ``text`` contexts; see `VisualTokens` and `TextContexts`.
        initial: Where visual tokens start.
        context_length: Context vectors of a text context.
        context_init: Words that text contexts start from; ``None`` for none.
        class_position: Where the class name stands in a text context.
        selection: Who chooses the prompts of an image; see `Selection`.
        chosen: How many are chosen.
        similarity_weight: See `PromptSetProblem`.
        optimiser: The clients': PFPT's ``adam``, ``sgd`` with the training's momentum, or any.
        head: What classifies an image of visual tokens; see `VisualTokens`.
        projection: Whether its query goes through a trained matrix.
    """

    modality: Modality = "visual"
    initial: Initial = "class_token"
    context_length: int = 4
    context_init: str | None = None
    class_position: ClassPosition = "end"
    selection: Rule = "all"
    chosen: int = 10
    similarity_weight: float = 0.01
    optimiser: OptimiserName | Optimiser = "adam"
    head: Literal["text", "trained"] = "text"
    projection: bool = False

    def __post_init__(self) -> None:
        if self.modality == "text" and (self.head == "trained" or self.projection):
            raise ConfigError(
                "the trained head and projection belong to modality 'visual': text contexts act "
                "through the class features alone"
            )
        if self.projection and self.selection == "all":
            raise ConfigError("selection 'all' compares nothing: it has no use for a projection")


@dataclass(frozen=True)
class PromptSets:
    """Training and use of prompt sets, independent of how a server merges them.

    Attributes:
        setting: Backbone, classes, training options and seed.
        elements: What the elements are.
        selection: Which of them an image uses.
        similarity_weight: See `PromptSetProblem`.
        optimiser: The clients' optimiser, without weight decay, so that a prompt that no image
            chose does not move.
    """

    setting: Setting
    elements: Elements
    selection: Selection
    similarity_weight: float
    optimiser: Optimiser

    @classmethod
    def make(cls, setting: Setting, options: SetOptions) -> "PromptSets":
        """Put the parts together.

        Raises:
            BackboneError: The backbone cannot take such prompts.
        """
        elements: Elements = (
            VisualTokens(setting, options.initial, head=options.head, projection=options.projection)
            if options.modality == "visual"
            else TextContexts(
                setting,
                options.context_length,
                options.context_init,
                position=options.class_position,
            )
        )
        setting.backbone.require_features(elements.features)
        named: dict[str, Optimiser] = {"adam": Adam(), "sgd": SGD(setting.training.momentum)}
        chosen = options.optimiser
        return cls(
            setting,
            elements,
            Selection(options.selection, options.chosen),
            options.similarity_weight,
            named[chosen] if isinstance(chosen, str) else chosen,
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the trained parameters: the set, and further parameters."""
        return (PROMPTS, *self.elements.extras)

    def uploads(
        self, spec: Callable[[tuple[int, ...]], ArraySpec], most: int
    ) -> dict[str, ArraySpec]:
        """Declare the set (``spec`` is made from its shape) and further parameters."""
        beside = {name: ArraySpec(shape) for name, shape in self.elements.extras.items()}
        return {PROMPTS: spec((most, *self.elements.shape)), **beside}

    def problem(self) -> PromptSetProblem:
        """Make the clients' problem, without the terms that a method adds."""
        return PromptSetProblem(self.elements, self.selection, self.similarity_weight)

    def train(
        self,
        tasks: Sequence[ClientTask],
        privatizer: Privatizer,
        problem: Callable[[Sequence[ClientTask], Arrays], PromptSetProblem],
    ) -> list[TrainedClient]:
        """Train the sets that the clients were sent, and the further parameters.

        Args:
            tasks: The round's tasks in any order.
            privatizer: How gradients are formed.
            problem: Makes K clients' problem from their tasks and initial parameters.

        Returns:
            The trained clients, in the order of their ids.
        """

        def begin(batch: list[ClientTask]) -> tuple[PromptSetProblem, Arrays]:
            device = self.setting.backbone.device
            start = {name: stack_arrays(batch, name, device) for name in self.names}
            return problem(batch, start), start

        return tune(
            tasks,
            self.setting,
            privatizer,
            begin,
            key=lambda task: len(task.download.arrays[PROMPTS]),
            optimiser=self.optimiser,
        )

    @torch.no_grad()
    def classify(self, arrays: Arrays, features: Arrays) -> Prediction:
        """Classify images with one set, each with its own nearest prompts.

        Args:
            arrays: The set and the further parameters.
            features: By kind, (B, ...).
        """
        device = self.setting.backbone.device
        params = {name: arrays[name][None].to(device) for name in self.names}
        total = len(features[self.elements.features[0]])
        problem = self.problem()
        parts = [
            problem.logits(
                params,
                {k: features[k][None, part].to(device) for k in self.elements.features},
            )[0]
            for part in (slice(i, i + _IMAGES_AT_ONCE) for i in range(0, total, _IMAGES_AT_ONCE))
        ]
        return Prediction(torch.cat(parts))

    @torch.no_grad()
    def fold(self, arrays: Arrays) -> Folded:
        """See `CanFold`; the further parameters of visual tokens stay beside them."""
        device = self.setting.backbone.device
        params = {name: arrays[name][None].to(device) for name in self.names}
        kind, made = self.elements.folded(params)
        options: dict[str, Scalar] = {"scale": self.setting.backbone.logit_scale}
        options |= {"all": self.selection.rule == "all", "chosen": self.selection.count}
        return Folded(kind, options, made)

    def privacy_gap(self, mode: Mode) -> str | None:
        """Return why a mode does not cover the clients' training; ``None`` if it does."""
        if mode == "joint" and self.selection.rule == "batch":
            return (
                "the images of a batch vote for its prompts, so that one image acts on the "
                "gradients of the others; use selection 'sample' or 'all'"
            )
        return gap_of_one_phase(mode)


def moved_rows(before: Tensor, after: Tensor) -> Tensor:
    """Find the prompts of a set that training has changed: two (n, ...) to (n,) bool."""
    return (before != after).flatten(1).any(1)
