"""FedSP: a soft prompt shared between a protected full model and clients' auxiliary models.

Full title: "Tunable Soft Prompts are Messengers in Federated Learning", by C. Dong, Y. Xie,
B. Ding, Y. Shen and Y. Li, Findings of EMNLP 2023, arXiv 2311.06805. The server owns the full
model, whose weights never leave. Clients hold an auxiliary model, distilled once on the server, and
in each round train it and then a prefix of keys and values, in two stages; only the prefix is
uploaded. The server averages the prefixes and trains the average a little inside the full model.

The paper's model is a causal language model; here it is one (`pfedmoap.models.language`), or a
CLIP. Where we depart from it:

- On a CLIP both towers are protected and have an auxiliary; the prefix stands in the text tower
  (``prefixed="both"``: in both). ``protects="text"`` takes the image tower as public.
- Of the token embedding only the rows that the classes' prompts need are cut out and distilled.
- The released clients upload the auxiliary's weights as well; here nothing but the prefix leaves.
- Step sizes are constant, where the released code's rise over the first tenth of all steps.
- No reparametrisation of the prefix.

Personalised accuracy is that of each client's own auxiliary with the new prefix; global accuracy
is that of the full model, on the server.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from pfedmoap.client.privatizer import Mode, Privatizer
from pfedmoap.config.bounds import Bounds, Count, NotNegative, Positive, Whole, check_options
from pfedmoap.config.recommended import Recommended
from pfedmoap.contract.batch_size import fixed_batch_size
from pfedmoap.contract.predicting import ManyModels, PredictionTask
from pfedmoap.contract.stacking import client_batches, stack
from pfedmoap.contract.tasks import ArraySpec, ClientResult, ClientTask, Prediction, Setting
from pfedmoap.errors import ConfigError
from pfedmoap.methods.fedsp.distillation import Distillation, Start, distil
from pfedmoap.methods.fedsp.problems import AUXILIARY, PREFIX
from pfedmoap.methods.fedsp.protect import protect
from pfedmoap.methods.fedsp.requirements import (
    gap_of_stages,
    lack_of_examples,
    no_tower_at_home,
)
from pfedmoap.methods.fedsp.stages import Plan, run_stages, server_stage
from pfedmoap.methods.fedsp.state import State, auxiliary_weights, starting_arrays
from pfedmoap.models.protected.interface import (
    AuxiliaryModel,
    ProtectedModel,
    Protection,
    Towers,
    draw_prefix,
)
from pfedmoap.models.protected.naming import named, part_of
from pfedmoap.models.protected.towers import Shape
from pfedmoap.server.aggregation import Weighting, combine
from pfedmoap.wire.messages import Arrays, ClientId, Download, Update


@dataclass(frozen=True)
class FedSP:
    """The method with its hyperparameters.

    Attributes:
        setting: Backbone, classes, training options and seed.
        protects: ``both`` towers of a CLIP, or the ``text`` tower alone with a public image tower.
        prefixed: Which towers have a prefix: ``text`` or ``both``.
        prefix_length: Keys and values p in each layer.
        prefix_std: Standard deviation of the first prefix.
        auxiliary: ``looped`` runs the first block to the full depth, ``dropped`` keeps some
            evenly spaced blocks.
        auxiliary_blocks: Blocks that each of the auxiliary's towers stores.
        auxiliary_learning_rate: Step size of its weights on clients.
        distillation_steps: Steps on the server before the first round; 0 sends the cut-out blocks
            as they are, which discloses them.
        distillation_batch_size: Examples and texts in such a step.
        distillation_learning_rate: Its step size.
        auxiliary_start: What is distilled: ``cut`` starts from the model's own blocks, which the
            result then resembles, ``random`` from random numbers.
        stages: What a client trains: ``alternate`` first the auxiliary, then the prefix; ``joint``
            both at once; ``prompt`` the prefix alone; ``none`` nothing, so that the server is all
            that learns.
        server_step: Whether the server trains the average inside the full model, for as many
            epochs as clients, on its own examples.
        weighting: ``examples`` weights clients by their training sets, ``uniform`` does not.
    """

    recommended: ClassVar[Recommended] = {
        "training": {"learning_rate": 5e-4, "batch_size": 16, "local_steps": 10}
    }

    setting: Setting
    protects: Towers = "both"
    prefixed: Towers = "text"
    prefix_length: Annotated[int, Bounds(ge=1, le=1024)] = 8
    prefix_std: NotNegative = 0.02
    auxiliary: Shape = "looped"
    auxiliary_blocks: Annotated[int, Bounds(ge=1, le=1024)] = 1
    auxiliary_learning_rate: Positive = 5e-4
    distillation_steps: Whole = 1000
    distillation_batch_size: Count = 16
    distillation_learning_rate: Positive = 5e-4
    auxiliary_start: Start = "cut"
    stages: Plan = "alternate"
    server_step: bool = True
    weighting: Weighting = "examples"

    def __post_init__(self) -> None:
        check_options(self, "method")
        if self.prefixed == "both" and self.protects == "text":
            raise ConfigError(
                "a prefix in the image tower needs an auxiliary image tower on the clients: use "
                "--method.protects both, or --method.prefixed text"
            )

    @property
    def trains(self) -> bool:
        """Learns in rounds."""
        return True

    @property
    def features(self) -> tuple[str, ...]:
        """What clients' auxiliary models read, and what the full model reads on the server."""
        return tuple(dict.fromkeys((*self._client.features, *self.protected.features)))

    def privacy_gap(self, mode: Mode) -> str | None:
        """See `HasPrivacyAnalysis`: the budget covers one stage of private steps, not a second."""
        return gap_of_stages(mode, self.stages, self._client)

    @property
    def uploads(self) -> Mapping[str, ArraySpec]:
        """The prefix and nothing else."""
        shapes = self.protected.prefix_shapes
        return {f"{PREFIX}.{name}": ArraySpec(shape) for name, shape in shapes.items()}

    def lacks(self) -> str | None:
        """The server must hold examples, unless nothing that it does needs any."""
        if self.setting.server_data is not None:
            return None
        return lack_of_examples(self.protects, self.distillation_steps, self.server_step)

    def class_bond(self) -> str | None:
        """Clients' auxiliary models can embed only the words of the classes' prompts."""
        return self._client.class_bond

    def init(self) -> State:
        """Distil the auxiliary model on the server, and draw the first prefix.

        Raises:
            ConfigError: The server has no examples to distil or train on.
        """
        if (why := self.lacks()) is not None:
            raise ConfigError(why)
        auxiliary, _ = distil(
            self.protected,
            self.setting.server_data,
            self.distillation,
            clients=fixed_batch_size(self.setting),
        )
        prefix = draw_prefix(self.protected.prefix_shapes, self.prefix_std, self.setting.seed)
        return State(prefix, auxiliary, frozenset(), {})

    @property
    def distillation(self) -> Distillation:
        """How the server distils."""
        return Distillation(
            self.distillation_steps,
            self.distillation_batch_size,
            self.distillation_learning_rate,
            start=self.auxiliary_start,
            seed=self.setting.seed,
        )

    @cached_property
    def protected(self) -> ProtectedModel:
        """The full model, which only the server uses."""
        return protect(
            self.setting,
            Protection(
                protects=self.protects,
                prefixed=self.prefixed,
                prefix_length=self.prefix_length,
                shape=self.auxiliary,
                blocks=self.auxiliary_blocks,
                batch_size=self.distillation_batch_size,
            ),
        )

    def plan(self, state: State, cohort: Sequence[ClientId], round: int) -> list[Download]:
        """Send the prefix, and the auxiliary to those who do not have it yet."""
        prefix, auxiliary = named(PREFIX, state.prefix), named(AUXILIARY, state.auxiliary)
        return [
            Download(round, client, prefix if client in state.equipped else prefix | auxiliary)
            for client in sorted(cohort)
        ]

    def train(self, tasks: Sequence[ClientTask], privatizer: Privatizer) -> list[ClientResult]:
        """Train the auxiliary, then the prefix; upload the prefix and keep the rest."""
        results: list[ClientResult] = []
        own = [replace(task, data=task.data.only(self._client.features)) for task in tasks]
        size = fixed_batch_size(self.setting)
        for batch in client_batches(own, size, key=lambda task: task.local is None):
            staged = run_stages(
                self.stages,
                self._client,
                [starting_arrays(task) for task in batch],
                batch,
                self.setting,
                self.auxiliary_learning_rate,
                privatizer,
            )
            for client, optimisers in staged:
                uploads = {name: client.params[name] for name in self.uploads}
                keeps = {n: value for n, value in client.params.items() if n not in uploads}
                results.append(client.result(uploads, {**keeps, **optimisers}))
        return sorted(results, key=lambda result: result.update.client)

    def aggregate(self, state: State, updates: Sequence[Update]) -> State:
        """Average the prefixes, and train the average inside the full model."""
        if not updates:
            return state
        before = named(PREFIX, state.prefix)
        after = combine(before, updates, self.weighting, self.setting.server)
        prefix: Arrays = part_of(PREFIX, after)
        optimiser = state.optimiser
        if self.server_step:
            prefix, optimiser = server_stage(
                self.protected, prefix, optimiser, self.setting, updates[0].round
            )
        equipped = state.equipped | {update.client for update in updates}
        return State(prefix, state.auxiliary, equipped, optimiser)

    def aggregation_gap(self) -> str | None:
        """See `AveragesByRule`: so are the prefixes, before the server trains their average."""
        return None

    @torch.no_grad()
    def predict(self, download: Download, local: Arrays | None, features: Arrays) -> Prediction:
        """Classify with the client's own auxiliary and the server's prefix."""
        weights = self._alone(auxiliary_weights(download, local))
        prefix = self._alone(part_of(PREFIX, download.arrays))
        seen = self._alone({kind: features[kind] for kind in self._client.features})
        shared = self._client.represent(weights, prefix)
        return Prediction(self._client.logits(weights, prefix, shared, seen)[0])

    def predict_together(self, tasks: Iterable[PredictionTask]) -> Iterator[Prediction]:
        """See `CanPredictTogether`: the clients' auxiliaries run side by side, as in training."""
        device, size = self.setting.backbone.device, fixed_batch_size(self.setting)

        def answer(batch: Sequence[PredictionTask], seen: Arrays) -> tuple[Tensor, None]:
            own = [auxiliary_weights(task.download, task.local) for task in batch]
            weights = stack(own, device)
            sent = [part_of(PREFIX, task.download.arrays) for task in batch]
            prefix = stack(sent, device)
            shared = self._client.represent(weights, prefix)
            return self._client.logits(weights, prefix, shared, seen), None

        return ManyModels(
            kinds=self._client.features, device=device, classify=answer, at_most=lambda _: size
        ).predict(tasks)

    @torch.no_grad()
    def predict_global(self, state: State, features: Arrays) -> Prediction:
        """Classify with the full model, on the server."""
        prefix = self._alone(state.prefix)
        seen = self._alone({kind: features[kind] for kind in self.protected.features})
        return Prediction(self.protected.logits(prefix, self.protected.represent(prefix), seen)[0])

    def forget(self, state: State, client: ClientId) -> State:
        """Note that a client has no auxiliary model any more; see `CanForget`."""
        return replace(state, equipped=state.equipped - {client})

    def forget_local(self, local: Arrays, client: ClientId) -> Arrays:
        """Change nothing: clients hold nothing of another one."""
        del client
        return local

    fold = staticmethod(no_tower_at_home)  # see `CanFold`

    def to_arrays(self, state: State) -> Arrays:
        """All of the server's state."""
        return state.to_arrays()

    def from_arrays(self, arrays: Arrays) -> State:
        """Inverse of `to_arrays`."""
        return State.from_arrays(arrays)

    def _alone(self, arrays: Arrays) -> Arrays:
        """Give one client's arrays a leading axis, on the backbone's device."""
        return {name: v[None].to(self.setting.backbone.device) for name, v in arrays.items()}

    @cached_property
    def _client(self) -> AuxiliaryModel:
        return self.protected.auxiliary


METHOD = FedSP
