"""pFedMoAP: a personalised mixture of prompt experts (Luo et al., ICLR 2025, arXiv 2410.10114).

Each client trains a prompt and a small attention gate, which never leaves it; the server keeps each
client's last prompt in a pool and sends each client the averaged one and the k nearest to its own.

Notation: our ``experts`` k is their K, ``gate_width`` their d_g, ``own_weight`` their lambda.

Where we depart from the released code and follow the paper: experts are the true nearest by client
id; the pool is the one of the end of the last round; each client has its own optimiser and gate;
attention is scaled by 1/sqrt(d) (an option gives the code's 10.0). Where the paper is silent we
follow the code: features are pooled by strides. A client is tested with its last round's experts.

Controls beside the paper's method: ``experts=0`` (gate alone), ``selection="random"``, the other
gates, and ``gate_sharing="averaged"``. In the last one all clients upload a gate, but one that had
no experts to train with is not averaged, and clients classify with the new average.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal

from pfedmoap.client.privatizer import Mode, Privatizer
from pfedmoap.client.schedules import Form, Schedule
from pfedmoap.config.bounds import Bounds, NotNegative, Positive, Whole, check_options
from pfedmoap.contract.folding import Folded
from pfedmoap.contract.predicting import PredictionTask
from pfedmoap.contract.tasks import ArraySpec, ClientResult, ClientTask, Prediction, Setting
from pfedmoap.errors import ConfigError
from pfedmoap.methods.pfedmoap.attention_gate import Pooling, Score
from pfedmoap.methods.pfedmoap.downloads import plan_downloads
from pfedmoap.methods.pfedmoap.gates import GateName, make_gate
from pfedmoap.methods.pfedmoap.local_training import LocalTraining, Start
from pfedmoap.methods.pfedmoap.many_clients import ManyClients
from pfedmoap.methods.pfedmoap.mixture import GATE, Mixture
from pfedmoap.methods.pfedmoap.served_experts import encode_experts, without_expert
from pfedmoap.methods.pfedmoap.server_state import ServerState, without_client
from pfedmoap.methods.pfedmoap.serving import Selection, Serving
from pfedmoap.models.clip.clip import PromptEncoder
from pfedmoap.models.clip.tokens import ClassPosition
from pfedmoap.prompts.encoding import FeaturesOfRound
from pfedmoap.prompts.layout import PromptLayout
from pfedmoap.prompts.tuning import classify
from pfedmoap.server.expert_pool import ExpertPool
from pfedmoap.wire.messages import Arrays, ClientId, Download, Update


@dataclass(frozen=True)
class PFedMoAP:
    """The method with its hyperparameters; defaults are the paper's.

    Attributes:
        setting: Backbone, classes, training options and seed.
        experts: Non-local experts k served to a client; 0 leaves the gate with the own prompt.
        selection: ``nearest`` prompts by l2, or ``random`` ones (a control).
        context_length: Context vectors L.
        context_init: Words to start the context from; none draws it at random.
        class_position: Where the class name stands: ``end`` (paper), ``middle`` or ``front``.
        class_specific: Whether each class has context vectors of its own; not in the paper.
        gate: ``attention`` (paper), ``linear`` in the image feature, or the experts' ``mean``.
        gate_sharing: ``local`` gates never leave (paper); ``averaged`` ones are uploaded and
            averaged like the prompt, over the clients that trained theirs (a control).
        gate_width: Width d_g of the attention gate; ``auto`` is the paper's 128, or half of the
            features' width where that is less.
        gate_heads: Its attention heads.
        gate_learning_rate: Step size of the gate, the largest one where it has a schedule.
        gate_schedule: As ``training.schedule``, for the gate.
        gate_warm_up: As ``training.warm_up``, for the gate; both have the same horizon.
        attention_scale: ``sqrt`` for 1/sqrt(d); a number multiplies (released code: 10.0).
        pooling: ``strided`` (released code) or ``average`` reduction to the gate's width.
        renormalise: Give pooled features unit norm again (neither paper nor code).
        score: ``dot`` product of image and mixture (released code), or ``cosine``, the paper's
            example of a similarity.
        own_weight: Weight lambda of the own prompt's logits beside the mixture's.
        start: Begin a round from the ``global`` prompt (paper) or the client's ``own`` last one.
        newcomers: What a client without a pool entry is sent to classify with: the ``global``
            prompt (paper), or also the k ``experts`` nearest to it, whose logits it averages.
    """

    setting: Setting
    experts: Annotated[int, Bounds(ge=0, le=100_000)] = 9
    selection: Selection = "nearest"
    context_length: Annotated[int, Bounds(ge=1, le=1024)] = 16
    context_init: str | None = None
    class_position: ClassPosition = "end"
    class_specific: bool = False
    gate: GateName = "attention"
    gate_sharing: Literal["local", "averaged"] = "local"
    gate_width: Annotated[int, Bounds(ge=1, le=65_536)] | Literal["auto"] = "auto"
    gate_heads: Annotated[int, Bounds(ge=1, le=65_536)] = 8
    gate_learning_rate: Positive = 0.01
    gate_schedule: Form = "constant"
    gate_warm_up: Whole = 0
    attention_scale: Positive | Literal["sqrt"] = "sqrt"
    pooling: Pooling = "strided"
    renormalise: bool = False
    score: Score = "dot"
    own_weight: NotNegative = 0.5
    start: Start = "global"
    newcomers: Literal["global", "experts"] = "global"

    def __post_init__(self) -> None:
        check_options(self, "method")
        self._layout.check(self.features)
        if self.newcomers == "experts" and self.experts == 0:
            raise ConfigError("method.newcomers experts needs method.experts of at least 1, got 0")
        self._mixture  # noqa: B018  # refuses widths that features or heads do not admit

    @property
    def trains(self) -> bool:
        """Learns in rounds."""
        return True

    @property
    def features(self) -> tuple[str, ...]:
        """Needs one global feature an image."""
        return ("image",)

    def privacy_gap(self, mode: Mode) -> str | None:
        """See `HasPrivacyAnalysis`: only gates that are not uploaded may train without noise."""
        if mode == "central":
            return "the pool serves prompts as they are; use `--privacy release`, or promptfl"
        if mode == "decoupled" and self.gate_sharing == "averaged":
            return (
                "the gate is trained without noise there, and gate_sharing averaged would upload "
                "it. Use mode joint, or gate_sharing local"
            )
        return None

    @property
    def uploads(self) -> Mapping[str, ArraySpec]:
        """Only the prompt is uploaded, unless gates are averaged."""
        context = ArraySpec((self._layout.rows, self.setting.backbone.text_width))
        gate = {name: ArraySpec(tuple(value.shape)) for name, value in self._shared_gate.items()}
        return {"context": context, **gate}

    def init(self) -> ServerState:
        """Start from one prompt and an empty pool."""
        context = self._layout.initial(self.setting.seed).cpu()
        return ServerState(context, ExpertPool(options=self.setting.pool), self._shared_gate)

    def plan(self, state: ServerState, cohort: Sequence[ClientId], round: int) -> list[Download]:
        """Send the global prompt, and k experts to clients that have a pool entry.

        Without an entry it trains its prompt alone; with one it gets ``experts`` (k', L, W), k' <=
        k, and ``expert_clients`` (k',). ``newcomers`` adds ``guest_experts``, only classified with.
        """
        common = {"context": state.context, **state.gate}
        guests = self.newcomers == "experts"
        return plan_downloads(state.pool, common, cohort, round, self._serving, guests=guests)

    def train(self, tasks: Sequence[ClientTask], privatizer: Privatizer) -> list[ClientResult]:
        """Train prompt and gate together (Algorithm 1); the prompt alone the first time.

        Experts are frozen within a round: each is encoded once, however many it serves. Where a
        privatizer decouples the two, the prompt learns from its own logits, then the gate from it.
        """
        features = encode_experts(tasks, self._features.of_round(self.encoder))
        horizon = self.setting.training.horizon
        clients = LocalTraining(
            self.setting,
            self.encoder,
            self._mixture,
            self.initial_gate,
            gate_uploaded=bool(self._shared_gate),
            start=self.start,
            gate_learning_rate=self.gate_learning_rate,
            gate_time=Schedule(self.gate_schedule, self.gate_warm_up, horizon),
        )
        return clients.train(tasks, privatizer, features)

    def aggregate(self, state: ServerState, updates: Sequence[Update]) -> ServerState:
        """Average the prompts by training-set size and put each into the pool."""
        return state.after(updates, self.setting.server)

    def starts(self, state: ServerState, client: ClientId) -> Arrays:
        """See `StartsElsewhere`: with ``start="own"``, from the client's last prompt."""
        own = self.start == "own" and client in state.pool
        return {"context": state.pool[client]} if own else {}

    def aggregation_gap(self) -> str | None:
        """See `AveragesByRule`: so is the prompt, and the gates where they are averaged."""
        return None

    def predict(self, download: Download, local: Arrays | None, features: Arrays) -> Prediction:
        """Classify with the client's prompt, gate and experts; a newcomer uses what it is sent."""
        return self._clients.classify_alone(PredictionTask(download, local, features), self.encoder)

    def predict_together(self, tasks: Iterable[PredictionTask]) -> Iterator[Prediction]:
        """See `CanPredictTogether`: each prompt is encoded once, and gates run side by side."""
        return self._clients.predict(tasks)

    def release_features(self) -> None:
        """See `KeepsFeatures`."""
        self._features.release()

    def plan_to_predict(
        self, state: ServerState, clients: Sequence[ClientId], round: int, new: frozenset[ClientId]
    ) -> list[Download]:
        """See `CanPlanForNewcomers`: who took part classifies with the experts that it holds."""
        planned = {each.client: each for each in self.plan(state, sorted(new), round)}
        common = {"context": state.context, **state.gate}
        return [planned.get(client, Download(round, client, common)) for client in sorted(clients)]

    def predict_global(self, state: ServerState, features: Arrays) -> Prediction:
        """Classify with the averaged prompt alone."""
        return classify(self.encoder, state.context, self.setting, features["image"])

    def predict_sent(self, download: Download, features: Arrays) -> Prediction:
        """See `SendsGlobalModel`."""
        return classify(self.encoder, download.arrays["context"], self.setting, features["image"])

    to_arrays = staticmethod(ServerState.to_arrays)
    divided = staticmethod(ServerState.divided)  # see `KeepsRows`

    def from_arrays(self, arrays: Arrays) -> ServerState:
        """Inverse of `to_arrays`."""
        return ServerState.from_arrays(arrays, self.setting.pool)

    def screened(self, state: ServerState) -> Mapping[ClientId, str]:
        """See `ServesExperts`."""
        return state.pool.screened(self.setting.pool).reasons

    def searched(self, state: ServerState) -> Mapping[str, float]:
        """See `ServesExperts`."""
        return state.pool.searched

    @property
    def _serving(self) -> Serving:
        return Serving(self.experts, self.selection, self.setting.seed, self.setting.pool)

    def fold(self, download: Download, local: Arrays | None) -> Folded:
        """See `CanFold`: class features of all prompts, and the gate."""
        return self._clients.fold(download, local)

    forget = staticmethod(without_client)  # see `CanForget`
    forget_local = staticmethod(without_expert)

    @cached_property
    def _features(self) -> FeaturesOfRound:
        """Class features of the experts served last."""
        return FeaturesOfRound(self.setting)

    @property
    def _clients(self) -> ManyClients:
        shared, encode = bool(self._shared_gate), self._features.with_last(self.encoder)
        return ManyClients(self._mixture, self.setting, encode, self.initial_gate, shared)

    @cached_property
    def encoder(self) -> PromptEncoder:
        """From contexts (E, L, W) to class features (E, C, D)."""
        return self._layout.encoder()

    @property
    def _layout(self) -> PromptLayout:
        form = (self.context_init, self.class_position, self.class_specific)
        return PromptLayout(self.setting, self.context_length, *form)

    def class_bond(self) -> str | None:
        """See `IsBoundToClasses`."""
        return self._layout.class_bond()

    @cached_property
    def _mixture(self) -> Mixture:
        gate = make_gate(
            self.gate,
            self.setting.backbone.embed_dim,
            experts=self.experts,
            width=self.gate_width,
            heads=self.gate_heads,
            scale=self.attention_scale,
            pooling=self.pooling,
            score=self.score,
            renormalise=self.renormalise,
            seed=self.setting.seed,
        )
        return Mixture(gate, self.setting.backbone.logit_scale, self.own_weight)

    @cached_property
    def initial_gate(self) -> Arrays:
        """The gate that all clients start from, under the names it has beside the prompt."""
        return {GATE + name: value for name, value in self._mixture.gate.state_dict().items()}

    @property
    def _shared_gate(self) -> Arrays:
        """The same where the server averages gates; else nothing."""
        return self.initial_gate if self.gate_sharing == "averaged" else {}


METHOD = PFedMoAP
