"""The local training loop of all methods, over a leading client axis."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Literal

import torch
from torch import Tensor

from pfedmoap.client.batches import Cohort
from pfedmoap.client.device_step import HasDeviceStep
from pfedmoap.client.optimisers import SGD, Optimiser
from pfedmoap.client.privatizer import Privatizer
from pfedmoap.client.problem import Problem
from pfedmoap.client.schedules import Clock, Form, Horizon, Schedule, scheduled_rates
from pfedmoap.client.static_step import Start, Stepped, Stepwise, stepped
from pfedmoap.client.step_cache import StepCache
from pfedmoap.config.bounds import (
    Bounds,
    Count,
    Decay,
    NotNegative,
    Positive,
    Whole,
    check_options,
)
from pfedmoap.wire.messages import Arrays

DEFAULT_CLIENTS = 10  # in a batch


@dataclass(frozen=True)
class Training:
    """How clients train in one round.

    The optimiser is SGD with momentum unless a method brings its own. It is made anew for each
    client in each round unless a method says otherwise; nothing of it is shared between clients.

    Attributes:
        epochs: Passes over the client's data in one round.
        batch_size: Examples in a step.
        learning_rate: Step size of the prompt; the largest one where it has a schedule.
        momentum: SGD momentum.
        weight_decay: L2 weight decay.
        local_steps: Steps of each client in one round in place of ``epochs``; its data are gone
            through again as often as that takes.
        schedule: ``constant`` step size, or falling to zero along a ``cosine``; it is the same
            within an epoch, or a step where there are ``local_steps``.
        warm_up: Epochs (or steps) with a step size of 1e-5 at the start of the horizon.
        horizon: Go through the schedule in every ``round``, or once in the whole ``run``.
        clients_per_batch: Clients trained together as one batch; changes speed and memory, and
            results by rounding alone: arrays by about 1e-6 in 5 rounds on a CPU. ``auto`` takes as
            many as fit into half of the free memory, which may differ from run to run (fedsp: 10).
        memory_bytes: Activations of the text tower that are kept for the backward pass; what goes
            beyond is computed twice, to the same bits. None takes half of the free memory.
        graphs: Capture training steps as CUDA graphs and replay them. ``auto`` does on CUDA;
            ``true`` runs the same steps over fixed buffers on a CPU too, without a graph.
        compile: Compile the text tower at the first step, which takes up to a minute; where there
            is no compiler it runs as it is, and a log line says so. Private steps do not use it.
        tf32: Let CUDA round factors of float32 products to 10 bits: products are up to eight times
            as fast, each with an error of about 1e-3 of its size. A CPU takes no notice.
    """

    epochs: Count = 5
    batch_size: Count = 32
    learning_rate: Positive = 0.002
    momentum: Decay = 0.9
    weight_decay: NotNegative = 5e-4
    local_steps: Count | None = None
    schedule: Form = "constant"
    warm_up: Whole = 0
    horizon: Horizon = "round"
    clients_per_batch: Count | Literal["auto"] = DEFAULT_CLIENTS
    memory_bytes: Annotated[int, Bounds(ge=1)] | None = None
    graphs: bool | Literal["auto"] = "auto"
    compile: bool = False
    tf32: bool = False

    def __post_init__(self) -> None:
        check_options(self, "training")

    @property
    def over_time(self) -> Schedule:
        """How the prompt's step size changes."""
        return Schedule(self.schedule, self.warm_up, self.horizon)

    @property
    def length(self) -> int:
        """What a round is counted in: its epochs, or its steps where they are given."""
        return self.epochs if self.local_steps is None else self.local_steps


@dataclass(frozen=True)
class Stepping:
    """How the steps of a cohort are planned and taken.

    Attributes:
        training: Epochs, batch size, momentum, weight decay.
        learning_rates: Step size by parameter name.
        privatizer: How batches are drawn and gradients formed.
        optimiser: ``None`` for SGD with the training's momentum and weight decay.
        schedules: By parameter name, where it is not the training's own.
        rounds: Rounds of the run, for schedules over the whole of it; ``None`` if unknown.
        most: Clients of a full batch, to which smaller ones may be padded; ``None`` for those of
            the batch at hand.
        steps: Where captured steps are kept from one batch of clients to the next; ``None`` takes
            every step anew.
    """

    training: Training
    learning_rates: Mapping[str, float]
    privatizer: Privatizer
    optimiser: Optimiser | None = None
    steps: StepCache | None = None
    most: int | None = None
    schedules: Mapping[str, Schedule] = field(default_factory=dict)
    rounds: int | None = None


@dataclass(frozen=True)
class Trained:
    """A cohort after local training.

    Attributes:
        params: Trained parameters, each (K, ...), detached.
        loss: Mean training loss of each client over its last epoch's worth of steps, (K,).
        steps: Steps that each client took, (K,).
        optimiser: State of the optimiser, each (K, ...).
    """

    params: Arrays
    loss: Tensor
    steps: Tensor
    optimiser: Arrays


def train_locally(
    problem: Problem,
    params: Arrays,
    cohort: Cohort,
    stepping: Stepping,
    carried: Arrays | None = None,
) -> Trained:
    """Train K clients in one batch, each on its own data with its own batches and optimiser state.

    The step loop never synchronises with the device. The parameters of a client that has no
    batches left stay constant while the others continue.

    Args:
        problem: The clients' local problem.
        params: Initial parameters, each (K, ...).
        cohort: The clients, their data on the device of the parameters.
        stepping: How steps are planned and taken.
        carried: Optimiser state to continue from, each (K, ...); ``None`` initialises it.

    Returns:
        The trained parameters and each client's loss.
    """
    data, training = cohort.data, stepping.training
    device, privatizer = data.labels.device, stepping.privatizer
    views = next(iter(data.features.values())).shape[2]
    plan = privatizer.batches(
        cohort.sizes,
        views,
        cohort.streams,
        training.epochs,
        training.batch_size,
        training.local_steps,
    ).to(device)
    rates = scheduled_rates(
        stepping.learning_rates,
        {**dict.fromkeys(stepping.learning_rates, training.over_time), **stepping.schedules},
        plan,
        Clock(training.length, stepping.rounds),
    )
    optimiser = stepping.optimiser or SGD(training.momentum, training.weight_decay)
    state = optimiser.init(params) if carried is None else carried
    start = Start(problem, params, state, plan, data, rates)
    with float32_products(training.tf32, device):
        found = _static(start, stepping, optimiser) or _step_by_step(start, stepping, optimiser)
    loss = _last_epoch_loss(found.losses, plan.active, training.epochs)
    return Trained(found.params, loss, plan.active.sum(0), found.state)


def _static(start: Start, stepping: Stepping, optimiser: Optimiser) -> Stepped | None:
    """Take all steps in a captured one, where that is wanted and can be done."""
    training, privatizer = stepping.training, stepping.privatizer
    on_cuda = start.data.labels.device.type == "cuda"
    wanted = on_cuda if training.graphs == "auto" else training.graphs
    if not wanted or stepping.steps is None or not len(start.plan.index):
        return None
    halves = privatizer.device_step if isinstance(privatizer, HasDeviceStep) else None
    if halves is None:
        return None
    stepwise = Stepwise(halves, optimiser, stepping.learning_rates)
    step = stepping.steps.find(
        start,
        stepwise,
        most=stepping.most or len(start.plan.streams),
        options=(training.tf32,),
    )
    return None if step is None else step.run(start)


def _step_by_step(start: Start, stepping: Stepping, optimiser: Optimiser) -> Stepped:
    """Take all steps as Python says, one operation after the other."""
    params, state, plan = start.params, start.state, start.plan
    losses = []
    for step in range(len(plan.index)):
        batch = start.data.batch(plan, step)
        gradients, loss = stepping.privatizer.gradients(start.problem, params, batch)
        losses.append(loss)
        now: dict[str, float | Tensor] = {**stepping.learning_rates}
        now |= {name: value[step] for name, value in start.rates.items()}
        params, state = stepped(params, state, gradients, plan.active[step], optimiser, now)
    return Stepped(params, state, losses)


@contextmanager
def float32_products(tf32: bool, device: torch.device) -> Iterator[None]:
    """Let CUDA multiply float32 in tf32 for a while, where that is asked for."""
    if not tf32 or device.type != "cuda":
        yield
        return
    before = torch.get_float32_matmul_precision()
    with warnings.catch_warnings():  # some versions of torch advise a newer way, which others lack
        warnings.filterwarnings("ignore", message=".*TF32")
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _last_epoch_loss(losses: list[Tensor], active: Tensor, epochs: int) -> Tensor:
    if not losses:  # no client has an example
        return torch.zeros(active.shape[1], device=active.device)
    stacked = torch.stack(losses)  # (S, K)
    steps = active.sum(0)
    order = active.cumsum(0)
    last = active & (order > steps - (steps // epochs).clamp(min=1))
    return (stacked * last).sum(0) / last.sum(0).clamp(min=1)
