"""The base of methods whose server holds a set of prompts: FedAvg-PT's round, step by step.

The sets are those of PFPT (Weng et al., NeurIPS 2024, arXiv 2502.19752); its baselines differ in
what the server makes of the clients' sets.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, ClassVar

from pfedmoap.client.privatizer import Mode, Privatizer
from pfedmoap.config.bounds import AnyNumber, Bounds, check_options
from pfedmoap.config.recommended import Recommended
from pfedmoap.contract.folding import Folded
from pfedmoap.contract.predicting import PredictionTask, sent_arrays, with_one_model
from pfedmoap.contract.stacking import TrainedClient
from pfedmoap.contract.tasks import ArraySpec, ClientResult, ClientTask, Prediction, Setting
from pfedmoap.contract.unread_options import gap_where_replaced
from pfedmoap.models.clip.tokens import ClassPosition
from pfedmoap.prompts.set_elements import Initial, Modality
from pfedmoap.prompts.set_selection import Rule
from pfedmoap.prompts.set_tuning import OptimiserName, PromptSetProblem, PromptSets, SetOptions
from pfedmoap.prompts.tuning import broadcast
from pfedmoap.server.aggregation import Weighting, combine
from pfedmoap.wire.messages import Arrays, ClientId, Download, Update


@dataclass(frozen=True)
class PromptSet:
    """A set of prompts that clients train whole and that the server averages by position.

    The server's state is named tensors: the set, ``prompts`` (n, ...), what is trained beside it,
    and whatever a method adds. All clients classify with the server's set.

    Attributes:
        setting: Backbone, classes, training options and seed.
        prompts: Prompts in the set.
        modality: ``visual`` tokens in a ViT, or whole ``text`` contexts for any backbone.
        initial: Where visual tokens start: around the ``class_token``, or at ``random``.
        context_length: Context vectors of one text context.
        context_init: Words to start text contexts from; none starts at random.
        class_position: Where a class name stands in text contexts: ``end``, ``middle``, ``front``.
        selection: ``all`` uses all prompts for every image; ``batch`` and ``sample`` as in PFPT.
        chosen: Prompts that an image is classified with, unless all are.
        similarity_weight: Weight of the similarity in the loss, unless all prompts are used.
        optimiser: The clients' ``adam``, or ``sgd`` with the training's momentum.
        weighting: ``examples`` weights clients by their training sets, ``uniform`` does not.
    """

    recommended: ClassVar[Recommended] = {"training": {"learning_rate": 1e-4, "batch_size": 16}}

    setting: Setting
    prompts: Annotated[int, Bounds(ge=1, le=10_000)] = 20
    modality: Modality = "visual"
    initial: Initial = "class_token"
    context_length: Annotated[int, Bounds(ge=1, le=1024)] = 4
    context_init: str | None = None
    selection: Rule = "all"
    chosen: Annotated[int, Bounds(ge=1, le=10_000)] = 10
    similarity_weight: AnyNumber = 0.01
    optimiser: OptimiserName = "adam"
    weighting: Weighting = "examples"
    class_position: ClassPosition = "end"

    def __post_init__(self) -> None:
        check_options(self, "method")
        self.sets  # noqa: B018  # raises what is wrong with the options before any work

    @property
    def trains(self) -> bool:
        """Learns in rounds."""
        return True

    @property
    def features(self) -> tuple[str, ...]:
        """Needs a ViT's tokens and class token, or one global feature an image."""
        return self.sets.elements.features

    def privacy_gap(self, mode: Mode) -> str | None:
        """See `HasPrivacyAnalysis`: votes have no per-example gradient; most servers average."""
        kind = type(self)
        ours = (kind.plan, kind.aggregate) == (PromptSet.plan, PromptSet.aggregate)
        return None if mode == "central" and ours else self.sets.privacy_gap(mode)

    @property
    def uploads(self) -> dict[str, ArraySpec]:
        """The set is uploaded, and what is trained beside it."""
        return self.sets.uploads(ArraySpec, self.prompts)

    def init(self) -> Arrays:
        """Start from one random set (n, ...)."""
        return self.sets.elements.initial(self.prompts)

    def plan(self, state: Arrays, cohort: Sequence[ClientId], round: int) -> list[Download]:
        """Send all clients the set, and what is trained beside it."""
        return broadcast({name: state[name] for name in self.sets.names}, cohort, round)

    def train(self, tasks: Sequence[ClientTask], privatizer: Privatizer) -> list[ClientResult]:
        """Train the set on the client's images."""
        tuned = self.sets.train(tasks, privatizer, self.problem)
        return [self.divide(client) for client in tuned]

    def problem(self, tasks: Sequence[ClientTask], start: Arrays) -> PromptSetProblem:
        """Make the local problem of K clients that train from ``start``, each (K, ...)."""
        return self.sets.problem()

    def divide(self, client: TrainedClient) -> ClientResult:
        """Upload what a client trained; keep nothing."""
        return client.result(client.params, keeps={})

    def aggregate(self, state: Arrays, updates: Sequence[Update]) -> Arrays:
        """Average the sets, prompt by prompt."""
        return combine(state, updates, self.weighting, self.setting.server)

    def aggregation_gap(self) -> str | None:
        """See `AveragesByRule`."""
        return gap_where_replaced(self, PromptSet)

    def predict(self, download: Download, local: Arrays | None, features: Arrays) -> Prediction:
        """Classify with the global set, the same for every client."""
        return self.sets.classify(download.arrays, features)

    def fold(self, download: Download, local: Arrays | None) -> Folded:
        """See `CanFold`: the set, or its class features where it is one of texts."""
        return self.sets.fold(download.arrays)

    def predict_together(self, tasks: Iterable[PredictionTask]) -> Iterator[Prediction]:
        """See `CanPredictTogether`: the set is the same for all, so that their images are one."""
        return with_one_model(tasks, sent_arrays, self.predict, self.features)

    def predict_global(self, state: Arrays, features: Arrays) -> Prediction:
        """Classify with the global set."""
        return self.sets.classify(state, features)

    def predict_sent(self, download: Download, features: Arrays) -> Prediction | None:
        """See `SendsGlobalModel`: downloads have the state's names."""
        return self.predict_global(download.arrays, features)

    def to_arrays(self, state: Arrays) -> Arrays:
        """The server's state."""
        return dict(state)

    def from_arrays(self, arrays: Arrays) -> Arrays:
        """Inverse of `to_arrays`."""
        return dict(arrays)

    @property
    def options(self) -> SetOptions:
        """How sets are made, chosen from and trained."""
        return SetOptions(
            modality=self.modality,
            initial=self.initial,
            context_length=self.context_length,
            context_init=self.context_init,
            class_position=self.class_position,
            selection=self.selection,
            chosen=self.chosen,
            similarity_weight=self.similarity_weight,
            optimiser=self.optimiser,
        )

    @cached_property
    def sets(self) -> PromptSets:
        """Training and using such sets."""
        return PromptSets.make(self.setting, self.options)
