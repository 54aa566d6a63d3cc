"""A client's batches and steps within its query budget, and the two estimators of a gradient."""

import logging
import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from pfedmoap.client.batches import BatchPlan, Stream
from pfedmoap.client.privatizer import Privatizer
from pfedmoap.contract.stacking import TrainedClient
from pfedmoap.contract.tasks import ClientData, ClientTask, Setting
from pfedmoap.methods.fed_bbpt.prompting import Asking, Prompting
from pfedmoap.methods.fed_bbpt.spsa import Estimate, Gains, look_ahead_step, spsa
from pfedmoap.models.blackbox.interface import BlackBoxModel, Usage, ask_in_parts
from pfedmoap.models.blackbox.white_box import WhiteBoxModel
from pfedmoap.wire.messages import Download

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Examples:
    """One step's examples, without padding.

    Attributes:
        images: (B, 3, S, S).
        labels: (B,); never sent to the model.
        weight: Weight of each in the loss, (B,).
    """

    images: Tensor
    labels: Tensor
    weight: Tensor

    def loss(self, logits: Tensor) -> Tensor:
        """Weighted cross-entropy of logits (B, C), in double precision: differences are small."""
        each = F.cross_entropy(logits.double(), self.labels, reduction="none")
        return (each * self.weight).sum()


class Estimator(Protocol):
    """Estimates the gradient of a batch's loss."""

    def queries(self, examples: int) -> int:
        """Return the queries of a step on so many examples, without repeated requests."""
        ...

    def estimate(
        self, weights: Tensor, ask: Asking, examples: Examples, k: int, stream: torch.Generator
    ) -> tuple[Estimate, Usage]:
        """Estimate a gradient.

        Args:
            weights: Parameters, (G,).
            ask: Makes a question about the examples' images.
            examples: The batch.
            k: The step's number, from 1.
            stream: The client's random stream.

        Returns:
            The estimate, and what it cost.
        """
        ...


@dataclass(frozen=True)
class ZerothOrder:
    """SPSA over a black box, without any backpropagation.

    Attributes:
        model: The black box.
        gains: Its probe is used.
        draws: Pairs of losses in a step.
        images_per_call: Largest number of images in one request.
    """

    model: BlackBoxModel
    gains: Gains
    draws: int
    images_per_call: int

    def queries(self, examples: int) -> int:
        """Two for each example and draw."""
        return 2 * self.draws * examples

    def estimate(
        self, weights: Tensor, ask: Asking, examples: Examples, k: int, stream: torch.Generator
    ) -> tuple[Estimate, Usage]:
        """Estimate; see `spsa`."""
        spent = Usage()

        def loss(probed: Tensor) -> float:
            nonlocal spent
            answer = ask_in_parts(self.model, ask(probed), self.images_per_call)
            spent += answer.usage
            return float(examples.loss(answer.logits))

        with torch.no_grad():
            found = spsa(loss, weights, self.gains.probe_size(k), self.draws, stream)
        return found, spent


@dataclass(frozen=True)
class WhiteBox:
    """The exact gradient through the open backbone: an upper bound, not a black-box method.

    Attributes:
        model: The model, differentiable through its weights.
    """

    model: WhiteBoxModel

    def queries(self, examples: int) -> int:
        """Return 0: no query is made."""
        del examples
        return 0

    def estimate(
        self, weights: Tensor, ask: Asking, examples: Examples, k: int, stream: torch.Generator
    ) -> tuple[Estimate, Usage]:
        """Differentiate."""
        del k, stream
        with torch.enable_grad():
            leaf = weights.detach().requires_grad_()
            loss = examples.loss(self.model.logits(ask(leaf)).cpu())
            (gradient,) = torch.autograd.grad(loss, leaf)
        return Estimate(gradient, float(loss.detach())), Usage()


@dataclass(frozen=True)
class Descent:
    """How a client trains through a black-box model.

    Attributes:
        prompting: From parameters to questions.
        estimator: How gradients are estimated.
        gains: Step sizes.
        momentum: beta.
    """

    prompting: Prompting
    estimator: Estimator
    gains: Gains
    momentum: float


def plan_batches(
    task: ClientTask, setting: Setting, privatizer: Privatizer, steps: int
) -> BatchPlan:
    """Plan at least as many batches as there are steps, alone, whoever else is in the round."""
    size, batch_size = len(task.data), setting.training.batch_size
    epochs = math.ceil(steps / max(1, math.ceil(size / batch_size)))
    views = task.data.features["pixels"].shape[1]
    stream = Stream(setting.seed, task.download.client, task.download.round)
    return privatizer.batches([size], views, [stream], epochs, batch_size)


def run_steps(
    how: Descent,
    task: ClientTask,
    plan: BatchPlan,
    numbers: range,
    left: int | None,
    stream: torch.Generator,
    device: torch.device,
) -> tuple[TrainedClient, Usage]:
    """Take a round's steps, as many as the budget allows; the velocity starts at zero.

    Args:
        how: Prompts, estimates and step sizes.
        task: The client's; it was sent the parameters (G,) and has examples of kind ``pixels``.
        plan: Batches of this client alone, at least as many as steps; none without examples.
        numbers: Number k of each step, in the count of the federation.
        left: Queries left; ``None`` for no limit. A step that would overdraw is not begun.
        stream: The client's random stream.
        device: Where prompts are made.

    Returns:
        The trained parameters, perhaps after fewer steps, and the steps' queries.
    """
    weights = task.download.arrays[how.prompting.name].to(device)
    velocity = torch.zeros_like(weights)
    losses: list[float] = []
    usage = Usage()
    for step, k in zip(range(len(plan.weight)), numbers, strict=False):
        examples = _examples(task.data, plan, step, device)
        cost = how.estimator.queries(len(examples.labels))
        if left is not None and usage.queries + cost > left:
            break
        ask = how.prompting.about(examples.images)
        estimate, spent = how.estimator.estimate(weights, ask, examples, k, stream)
        usage += spent
        losses.append(estimate.loss)
        weights, velocity = look_ahead_step(
            weights, velocity, estimate.gradient, how.gains.step_size(k), how.momentum
        )
    loss = sum(losses) / max(1, len(losses))
    return TrainedClient(task, {how.prompting.name: weights.cpu()}, loss, len(losses)), usage


def warn_if_cut_short(download: Download, steps: int, planned: int) -> None:
    """Log that a client's budget allows fewer steps than a round has.

    Args:
        download: Which client and round.
        steps: Steps by the public sum, so that the log says nothing of the client's images.
        planned: Steps of a round.
    """
    if steps < planned:
        logger.warning(
            "client %d stopped after %d of %d steps in round %d: its query budget is spent",
            download.client,
            steps,
            planned,
            download.round,
        )


def _examples(data: ClientData, plan: BatchPlan, step: int, device: torch.device) -> Examples:
    """Gather one step's examples without padding, which would cost queries."""
    real = plan.weight[step, 0] > 0
    index, view = plan.index[step, 0, real], plan.view[step, 0, real]
    images = data.features["pixels"][index, view].to(device)
    return Examples(images, data.labels[index], plan.weight[step, 0, real])
