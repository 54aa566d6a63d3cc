"""Distillation on the server, which turns a few of the model's blocks into an auxiliary model."""

import logging
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from pfedmoap.contract.tasks import ClientData
from pfedmoap.errors import ConfigError
from pfedmoap.methods.fedsp.cost import announce, estimate
from pfedmoap.models.protected.interface import ProtectedModel
from pfedmoap.seeding import generator
from pfedmoap.wire.messages import Arrays

Start = Literal["cut", "random"]
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Distillation:
    """How the server distils; defaults are FedSP's, but for the number of steps.

    Attributes:
        steps: Optimiser steps; 0 leaves the weights as they were cut out.
        batch_size: Examples in a step.
        learning_rate: Largest step size, reached after the warm-up.
        weight_decay: Decoupled weight decay.
        warm_up: Fraction of the steps over which the step size rises.
        start: ``cut`` starts from the blocks that are cut out of the model, as FedSP does, so that
            what clients are sent resembles them; ``random`` draws all that is to be hidden anew,
            with the same mean and spread.
        seed: Seed of the batches and of a random start.
    """

    steps: int
    batch_size: int = 16
    learning_rate: float = 5e-4
    weight_decay: float = 0.01
    warm_up: float = 0.1
    start: Start = "cut"
    seed: int = 0


def distil(
    model: ProtectedModel, data: ClientData | None, options: Distillation, *, clients: int = 1
) -> tuple[Arrays, list[float]]:
    """Distil the auxiliary's weights, once, before the first round.

    Args:
        model: The protected model.
        data: The server's examples; their labels are not used. ``None`` where there are none.
        options: How.
        clients: Clients that will be trained at once, for the estimate that is told first.

    Returns:
        Weights on the CPU by name, and the loss of each step.

    Raises:
        ConfigError: Distillation diverged.
    """
    cut = model.first_weights()
    if options.steps == 0 and options.start == "cut":
        logger.warning(
            "without distillation clients are sent blocks of the protected model itself; set "
            "--method.distillation_steps above 0"
        )
    hidden = {name: value for name, value in cut.items() if model.is_hidden(name)}
    first = {**cut, **(_random_like(hidden, options.seed) if options.start == "random" else {})}
    device = next(iter(first.values())).device
    weights = {name: value[None].clone().requires_grad_() for name, value in first.items()}
    optimiser = AdamW(
        weights.values(), options.learning_rate, weight_decay=options.weight_decay, eps=1e-4
    )
    if options.steps:
        batch = draw_batch(data, options, generator(options.seed, "distillation", 0), device)
        loss_of_first = partial(model.distillation_loss, weights, batch, 0)
        announce(estimate(loss_of_first, weights, options.steps, clients))
    rising = max(1, round(options.warm_up * options.steps))
    schedule = LambdaLR(optimiser, lambda step: min(1.0, (step + 1) / rising))
    losses = []
    for step in range(options.steps):
        stream = generator(options.seed, "distillation", step)
        loss = model.distillation_loss(weights, draw_batch(data, options, stream, device), step)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(loss.detach())
    found = torch.stack(losses).tolist() if losses else []
    if not all(bool(value.isfinite().all()) for value in weights.values()):
        raise ConfigError(
            "distillation diverged: the auxiliary's weights are not finite. Use a smaller "
            f"method.distillation_learning_rate than {options.learning_rate}"
        )
    if found:
        logger.info("distilled %d steps: loss %.4f to %.4f", len(found), found[0], found[-1])
    return {name: value.detach()[0].cpu().clone() for name, value in weights.items()}, found


def resemblance(weights: Arrays, cut: Arrays) -> dict[str, Tensor]:
    """Say how much of the model the distilled weights still show.

    Args:
        weights: What distillation made.
        cut: The blocks that were cut out of the model, by the same names.

    Returns:
        By name, the absolute cosine of each row with the model's own row in its place, (rows,).
    """
    return {
        name: F.cosine_similarity(weights[name].double(), value.double().cpu(), dim=-1)
        .abs()
        .reshape(-1)
        for name, value in cut.items()
    }


def _random_like(weights: Arrays, seed: int) -> Arrays:
    """Draw each array anew from a normal distribution of its mean and standard deviation."""
    return {
        name: value.mean()
        + value.std(correction=0)
        * torch.randn(value.shape, generator=generator(seed, "random start", name)).to(value)
        for name, value in weights.items()
    }


def draw_batch(
    data: ClientData | None, options: Distillation, stream: torch.Generator, device: torch.device
) -> Arrays:
    """Draw the next images of the server's own for a step; none where it has none.

    Args:
        data: What the server holds, N examples.
        options: Among them the batch size B.
        stream: Decides which.
        device: Where the model is.

    Returns:
        Features by kind, each (min(B, N), ...).
    """
    if data is None:
        return {}
    rows = torch.randperm(len(data), generator=stream)[: options.batch_size]
    return {kind: values[rows].to(device) for kind, values in data.view().items()}
