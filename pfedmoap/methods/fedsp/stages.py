"""The stages of FedSP's round: what a client trains and when, and the server after it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from pfedmoap.client.batches import Cohort, StackedData, Stream
from pfedmoap.client.local_training import Stepping, train_locally
from pfedmoap.client.optimisers import Adam
from pfedmoap.client.privatizer import NoPrivacy, Privatizer
from pfedmoap.contract.stacking import TrainedClient, cohort_of, stack, unstack
from pfedmoap.contract.tasks import ClientTask, Setting
from pfedmoap.errors import MethodError
from pfedmoap.methods.fedsp.problems import AUXILIARY, PREFIX, AuxiliaryProblem, ServerProblem
from pfedmoap.models.protected.interface import AuxiliaryModel, ProtectedModel
from pfedmoap.models.protected.naming import named, part_of
from pfedmoap.wire.messages import Arrays, ClientId

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


def run_stages(
    plan: Plan,
    model: AuxiliaryModel,
    starts: Sequence[Arrays],
    batch: Sequence[ClientTask],
    setting: Setting,
    auxiliary_learning_rate: float,
    privatizer: Privatizer,
) -> list[tuple[TrainedClient, Arrays]]:
    """Train K clients side by side through their stages.

    Each stage takes the training's epochs, or its local steps, and has an optimiser of its own,
    which goes on from where it stood at the end of the client's last round.

    Args:
        plan: Which stages.
        model: The form of the clients' model.
        starts: Each client's ``prefix.*`` and ``auxiliary.*``.
        batch: The K tasks; either all have optimisers in their local state or none has.
        setting: Training options, seed and device.
        auxiliary_learning_rate: Step size of the auxiliary's weights.
        privatizer: How gradients are formed.

    Returns:
        The clients in the order of the batch, each with its optimisers' state, by name
        ``optimiser.<stage>.*``. The loss is that of the last stage, and steps are those of all.
    """
    device = setting.backbone.device
    params = stack(starts, device)
    cohort = cohort_of(batch, setting.seed, device)
    optimisers: dict[str, Tensor] = {}
    losses: list[float | None] = [None] * len(batch)
    steps = torch.zeros(len(batch), dtype=torch.int64, device=device)
    for stage, parts in STAGES[plan].items():
        moving = {name: value for name, value in params.items() if name.startswith(parts)}
        frozen = {name: value for name, value in params.items() if name not in moving}
        state = f"{OPTIMISER}.{stage}"
        seen = cohort
        if AUXILIARY not in parts:
            features = model.precompute(part_of(AUXILIARY, frozen), cohort.data.features)
            seen = replace(cohort, data=replace(cohort.data, features=features))
        carried = [part_of(state, task.local or {}) for task in batch]
        rates = {
            name: auxiliary_learning_rate
            if name.startswith(AUXILIARY)
            else setting.training.learning_rate
            for name in moving
        }
        trained = train_locally(
            AuxiliaryProblem(model, frozen),
            moving,
            seen,
            Stepping(
                setting.training, rates, privatizer, ADAMW, setting.steps, rounds=setting.rounds
            ),
            stack(carried, device) if carried[0] else None,
        )
        params |= trained.params
        optimisers |= named(state, trained.optimiser)
        losses, steps = trained.loss.tolist(), steps + trained.steps
    own, states = unstack(params, len(batch)), unstack(optimisers, len(batch))
    return [
        (TrainedClient(*client), state)
        for *client, state in zip(batch, own, losses, steps.tolist(), states, strict=True)
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
        Cohort(
            StackedData.stack([data.features], [data.labels], device),
            (len(data),),
            (Stream(setting.seed, SERVER, round),),
        ),
        Stepping(
            setting.training,
            dict.fromkeys(params, setting.training.learning_rate),
            NoPrivacy(),
            ADAMW,
            setting.steps,
            rounds=setting.rounds,
        ),
        stack([optimiser], device) if optimiser else None,
    )
    (found,), (state,) = unstack(trained.params, 1), unstack(trained.optimiser, 1)
    return part_of(PREFIX, found), state
