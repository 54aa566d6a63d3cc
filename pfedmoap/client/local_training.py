"""The local training loop of all methods, over a leading client axis."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pfedmoap.client.batches import Cohort
from pfedmoap.client.optimisers import SGD, Optimiser
from pfedmoap.client.privatizer import Privatizer
from pfedmoap.client.problem import Problem
from pfedmoap.config.bounds import Count, Decay, NotNegative, Positive, check_options
from pfedmoap.wire.messages import Arrays


@dataclass(frozen=True)
class Training:
    """How clients train in one round.

    The optimiser is SGD with momentum unless a method brings its own. It is made anew for each
    client in each round unless a method says otherwise; nothing of it is shared between clients.

    Attributes:
        epochs: Passes over the client's data in one round.
        batch_size: Examples in a step.
        learning_rate: Step size of the prompt.
        momentum: SGD momentum.
        weight_decay: L2 weight decay.
        clients_per_batch: Clients trained together as one batch; changes speed and memory, and
            results by rounding alone: arrays by about 1e-6 in 5 rounds on a CPU.
    """

    epochs: Count = 5
    batch_size: Count = 32
    learning_rate: Positive = 0.002
    momentum: Decay = 0.9
    weight_decay: NotNegative = 5e-4
    clients_per_batch: Count = 10

    def __post_init__(self) -> None:
        check_options(self, "training")


@dataclass(frozen=True)
class Stepping:
    """How the steps of a cohort are planned and taken.

    Attributes:
        training: Epochs, batch size, momentum, weight decay.
        learning_rates: Step size by parameter name.
        privatizer: How batches are drawn and gradients formed.
        optimiser: ``None`` for SGD with the training's momentum and weight decay.
    """

    training: Training
    learning_rates: Mapping[str, float]
    privatizer: Privatizer
    optimiser: Optimiser | None = None


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
        cohort.sizes, views, cohort.streams, training.epochs, training.batch_size
    ).to(device)
    optimiser = stepping.optimiser or SGD(training.momentum, training.weight_decay)
    rates = stepping.learning_rates
    state = optimiser.init(params) if carried is None else carried
    losses = []
    for step in range(len(plan.index)):
        gradients, loss = privatizer.gradients(problem, params, data.batch(plan, step))
        losses.append(loss)
        active = plan.active[step]
        directions, moved = optimiser.direction(params, gradients, state)
        ahead = {n: value - rates[n] * directions[n] for n, value in params.items()}
        params, state = _where(active, ahead, params), _where(active, moved, state)
    losses_of_last_epoch = _last_epoch_loss(losses, plan.active, training.epochs)
    return Trained(params, losses_of_last_epoch, plan.active.sum(0), state)


def _where(active: Tensor, new: Arrays, old: Arrays) -> Arrays:
    """Take the new values of the active clients (K,) and the old ones of the others."""
    return {
        name: torch.where(active.view(-1, *[1] * (value.dim() - 1)), new[name], value)
        for name, value in old.items()
    }


def _last_epoch_loss(losses: list[Tensor], active: Tensor, epochs: int) -> Tensor:
    if not losses:  # no client has an example
        return torch.zeros(active.shape[1], device=active.device)
    stacked = torch.stack(losses)  # (S, K)
    steps = active.sum(0)
    order = active.cumsum(0)
    last = active & (order > steps - (steps // epochs).clamp(min=1))
    return (stacked * last).sum(0) / last.sum(0).clamp(min=1)
