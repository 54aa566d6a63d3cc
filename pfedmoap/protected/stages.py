"""The stages of FedSP's round: what a client trains and when, and the server after it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor

from pfedmoap.batches import StackedData, Stream
from pfedmoap.cohorts import stack, stack_data, streams, unstack
from pfedmoap.errors import MethodError
from pfedmoap.gradients import NoPrivacy, Privatizer
from pfedmoap.method import ClientResult, ClientTask, Setting
from pfedmoap.optimisers import Adam
from pfedmoap.protected.models import AuxiliaryModel, ProtectedModel
from pfedmoap.protected.naming import named, part_of
from pfedmoap.protected.problems import AUXILIARY, PREFIX, AuxiliaryProblem, ServerProblem
from pfedmoap.training import train_locally
from pfedmoap.types import Arrays, ClientId, Update

Plan = Literal["alternate", "joint", "prompt", "none"]
OPTIMISER = "optimiser"
SERVER = ClientId(-1)  # names the server's random stream
ADAMW = Adam(first_decay=0.9, second_decay=0.999, floor=1e-4, weight_decay=0.01)  # FedSP's

STAGES: dict[Plan, dict[str, tuple[str, ...]]] = {
    "alternate": {"model": (AUXILIARY,), "prompt": (PREFIX,)},
    "joint": {"both": (AUXILIARY, PREFIX)},
    "prompt": {"prompt": (PREFIX,)},
    "none": {},
}
"""The parts that each stage trains, by plan and stage, in order."""


@dataclass(frozen=True)
class Staged:
    """One client after its stages.

    Attributes:
        task: What it was given.
        params: Its arrays, ``prefix.*`` and ``auxiliary.*``, on the CPU.
        optimisers: State of each stage's optimiser, ``optimiser.<stage>.*``.
        loss: Mean training loss over the last stage's last epoch; ``None`` without a stage.
    """

    task: ClientTask
    params: Arrays
    optimisers: Arrays
    loss: float | None

    def result(self, uploads: Collection[str]) -> ClientResult:
        """Divide what the client knows: the named arrays leave, everything else stays."""
        download = self.task.download
        update = Update(
            download.round,
            download.client,
            {name: value for name, value in self.params.items() if name in uploads},
            len(self.task.data),
            {} if self.loss is None else {"train_loss": self.loss},
        )
        keeps = {name: value for name, value in self.params.items() if name not in uploads}
        return ClientResult(update, {**keeps, **self.optimisers})


def run_stages(
    plan: Plan,
    model: AuxiliaryModel,
    starts: Sequence[Arrays],
    batch: Sequence[ClientTask],
    setting: Setting,
    auxiliary_learning_rate: float,
    privatizer: Privatizer,
) -> list[Staged]:
    """Train K clients side by side through their stages.

    Each stage takes the training's epochs and has an optimiser of its own, which goes on from where
    it stood at the end of the client's last round.

    Args:
        plan: Which stages.
        model: The form of the clients' model.
        starts: Each client's ``prefix.*`` and ``auxiliary.*``.
        batch: The K tasks; either all have optimisers in their local state or none has.
        setting: Training options, seed and device.
        auxiliary_learning_rate: Step size of the auxiliary's weights.
        privatizer: How gradients are formed.

    Returns:
        The clients in the order of the batch.
    """
    device = setting.backbone.device
    params = stack(starts, device)
    data, sizes = stack_data(batch, device), [len(task.data) for task in batch]
    optimisers: dict[str, Tensor] = {}
    losses: list[float] | None = None
    for stage, parts in STAGES[plan].items():
        moving = {name: value for name, value in params.items() if name.startswith(parts)}
        frozen = {name: value for name, value in params.items() if name not in moving}
        state = f"{OPTIMISER}.{stage}"
        seen = data
        if AUXILIARY not in parts:
            seen = replace(
                data, features=model.precompute(part_of(AUXILIARY, frozen), data.features)
            )
        carried = [part_of(state, task.local or {}) for task in batch]
        trained = train_locally(
            AuxiliaryProblem(model, frozen),
            moving,
            seen,
            sizes,
            streams(batch, setting.seed),
            setting.training,
            {
                name: auxiliary_learning_rate
                if name.startswith(AUXILIARY)
                else setting.training.learning_rate
                for name in moving
            },
            privatizer,
            ADAMW,
            stack(carried, device) if carried[0] else None,
        )
        params |= trained.params
        optimisers |= named(state, trained.optimiser)
        losses = trained.loss.tolist()
    own, states = unstack(params, len(batch)), unstack(optimisers, len(batch))
    return [
        Staged(task, own[row], states[row], None if losses is None else losses[row])
        for row, task in enumerate(batch)
    ]


def server_stage(
    model: ProtectedModel,
    prefix: Arrays,
    optimiser: Arrays,
    setting: Setting,
    round: int,
) -> tuple[Arrays, Arrays]:
    """Train the averaged prefix inside the full model, on the server's examples.

    Args:
        model: The full model.
        prefix: The average, by part.
        optimiser: State of the server's optimiser; empty before its first step.
        setting: The server's examples, training options, seed and device; the server takes as many
            epochs as clients.
        round: The round.

    Returns:
        The prefix by part, and the state of the optimiser.

    Raises:
        MethodError: The server has no examples.
    """
    if setting.server_data is None:
        raise MethodError("the server has no examples to train the prefix on")
    data = setting.server_data.only(model.features)
    device, params = setting.backbone.device, named(PREFIX, prefix)
    trained = train_locally(
        ServerProblem(model),
        stack([params], device),
        StackedData.stack([data.features], [data.labels], device),
        [len(data)],
        [Stream(setting.seed, SERVER, round)],
        setting.training,
        dict.fromkeys(params, setting.training.learning_rate),
        NoPrivacy(),
        ADAMW,
        stack([optimiser], device) if optimiser else None,
    )
    (found,), (state,) = unstack(trained.params, 1), unstack(trained.optimiser, 1)
    return part_of(PREFIX, found), state
