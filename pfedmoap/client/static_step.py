"""One training step over buffers with fixed addresses, captured as a CUDA graph where there is one.

A GPU runs a step of prompt training faster than Python can launch its thousands of small kernels.
So the step is written as a function that reads and writes only the buffers of a `StaticStep`:
parameters, optimiser state, and the step's rows (examples, labels, weights, owners, what clients'
problems hold, noise). On CUDA it is captured once and then replayed with one launch; on a CPU it
runs as it is, which proves everything but the capture itself.

What is in a step may not depend on values and may not touch the host. Batches of fewer clients are
padded with *standing clients*: rows that repeat the first client, with zero weight, whose
parameters stay as they are bit for bit. Noise of privacy is drawn on the host, by AES, and copied
in as one array a step.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from pfedmoap.client.batches import Batch, BatchPlan, StackedData
from pfedmoap.client.capture import Capture
from pfedmoap.client.device_step import DeviceStep
from pfedmoap.client.optimisers import Optimiser
from pfedmoap.client.placement import copy_into, placed
from pfedmoap.client.problem import Problem
from pfedmoap.client.problem_rows import client_rows, with_client_rows
from pfedmoap.wire.messages import Arrays


@dataclass(frozen=True)
class Stepwise:
    """How a step changes parameters.

    Attributes:
        gradients: How gradients are formed.
        optimiser: What makes directions of them.
        rates: Step size by parameter name; for those that change, the largest.
    """

    gradients: DeviceStep
    optimiser: Optimiser
    rates: Mapping[str, float]


@dataclass(frozen=True)
class Start:
    """K clients before their first step.

    Attributes:
        problem: Their local problem.
        params: Initial parameters, each (K, ...).
        state: The optimiser's state, each (K, ...).
        plan: Their steps, on the device.
        data: Their data, on the device.
        rates: Step sizes that change, by parameter name, each (S, K).
    """

    problem: Problem
    params: Arrays
    state: Arrays
    plan: BatchPlan
    data: StackedData
    rates: Arrays = field(default_factory=dict)


@dataclass(frozen=True)
class Stepped:
    """K clients after their last step.

    Attributes:
        params: Parameters, each (K, ...), in memory of their own.
        state: The optimiser's state, each (K, ...).
        losses: Each step's mean losses, (K,).
    """

    params: Arrays
    state: Arrays
    losses: list[Tensor]


def padded_clients(clients: int, most: int) -> int:
    """How many rows a step for some clients has: few sizes, so that few steps are captured.

    Powers of two up to 8, then four sizes an octave, so that at most a fifth is standing; never
    more than a full batch has, unless there are more clients.

    Args:
        clients: Clients K in the batch.
        most: Clients of a full batch.

    Examples:
        >>> [padded_clients(n, 50) for n in (1, 3, 8, 9, 13, 33, 49, 50)]
        [1, 4, 8, 10, 14, 40, 50, 50]
    """
    octave = (clients - 1).bit_length()
    step = 1 << (octave if clients <= 8 else octave - 3)
    return max(clients, min(-(-clients // step) * step, most))


def padded_examples(examples: int) -> int:
    """How many examples a row has: the next multiple of 4, for the same reason."""
    return -(-examples // 4) * 4


class StaticStep:
    """A step for one set of shapes.

    Args:
        start: Clients of these shapes; their problem is kept, with what it refers to.
        stepwise: How a step changes parameters.
        clients: Rows of the buffers, at least K.

    Attributes:
        clients: Rows of the buffers.
        examples: Examples in a row.
    """

    def __init__(self, start: Start, stepwise: Stepwise, clients: int) -> None:
        plan, data = start.plan, start.data
        self.clients = clients
        self.examples = padded_examples(plan.index.shape[2])
        self._stepwise = stepwise
        device = data.labels.device

        def like(values: Arrays) -> dict[str, Tensor]:
            return {
                n: v.new_zeros((clients, *v.shape[1:]), device=device) for n, v in values.items()
            }

        shape = (clients, self.examples)
        self._params, self._state = like(start.params), like(start.state)
        self._rows = like(client_rows(start.problem))
        self._drawn = like(stepwise.gradients.blank(start.params))
        self._problem = with_client_rows(start.problem, self._rows)
        self._features = {
            kind: views.new_zeros((*shape, *views.shape[3:]))
            for kind, views in data.features.items()
        }
        self._labels = data.labels.new_zeros(shape)
        self._weight = plan.weight.new_zeros(shape)
        self._owner = None if plan.owner is None else plan.owner.new_zeros(shape)
        self._active = torch.zeros(clients, dtype=torch.bool, device=device)
        self._loss = torch.zeros(clients, device=device)
        self._rates = {name: torch.zeros(clients, device=device) for name in start.rates}
        self._found: dict[str, Tensor] = {}
        self._step: Callable[[], None] = self._compute  # a captured one's replay, once it is

    def prepare(self, capture: Capture | None) -> None:
        """Take steps that change nothing, then capture one where something can.

        Call it before the first `run`. Parameters and state stay as they are, since no client is
        active; whatever cannot be in a captured step raises here, before anything is drawn.

        Args:
            capture: What captures; ``None`` captures nothing.
        """
        self._active.zero_()
        if capture is None:
            self._compute()
        else:
            self._step = capture(self._compute)

    def run(self, start: Start) -> Stepped:
        """Take all steps of K clients, at most as many as the buffers have rows.

        Args:
            start: Clients whose problem has the identity of the first one's, and these shapes.
        """
        plan, data = start.plan, start.data
        real = len(plan.streams)
        row = torch.arange(self.clients, device=data.labels.device)
        row = row * (row < real)  # standing clients repeat the first one
        self._load(row, start)
        index, view, weight = (self._padded(t) for t in (plan.index, plan.view, plan.weight))
        active = F.pad(plan.active, (0, self.clients - real))
        owner = None if plan.owner is None else self._padded(plan.owner)
        losses = []
        for step in range(len(index)):
            chosen = (row[:, None], index[step])
            for kind, views in data.features.items():
                self._features[kind].copy_(views[(*chosen, view[step])])
            self._labels.copy_(data.labels[chosen])
            self._weight.copy_(weight[step])
            self._active.copy_(active[step])
            for name, rates in start.rates.items():
                self._rates[name][:real].copy_(rates[step])
            if self._owner is not None and owner is not None:
                self._owner.copy_(owner[step])
            drawn = self._stepwise.gradients.draw(start.params, plan.streams)
            for name, value in drawn.items():
                copy_into(self._drawn[name][:real], value)
            self._step()
            losses.append(self._loss[:real].clone())
            found = {name: value[:real].clone() for name, value in self._found.items()}
            self._stepwise.gradients.note(plan.streams, found)
        return Stepped(self._result(self._params, real), self._result(self._state, real), losses)

    @property
    def buffers(self) -> dict[str, Tensor]:
        """Parameters, and the optimiser's state under ``state.``, of all rows; for tests."""
        return {**self._params, **{f"state.{name}": v for name, v in self._state.items()}}

    def _load(self, row: Tensor, start: Start) -> None:
        """Copy what a batch of clients brings along into the buffers."""
        for buffers, values in (
            (self._rows, client_rows(start.problem)),
            (self._params, start.params),
            (self._state, start.state),
        ):
            for name, value in values.items():
                own = placed(value, row.device)
                buffers[name].copy_(own if len(own) == self.clients else own[row])

    def _padded(self, plan: Tensor) -> Tensor:
        """Pad a part of a plan, (S, K, B): further examples and clients have weight 0."""
        _, clients, examples = plan.shape
        return F.pad(plan, (0, self.examples - examples, 0, self.clients - clients))

    def _compute(self) -> None:
        """Take the step. Nothing but the buffers is read or written."""
        rates: dict[str, float | Tensor] = {**self._stepwise.rates, **self._rates}
        optimiser = self._stepwise.optimiser
        batch = Batch(self._features, self._labels, self._weight, (), self._owner)
        gradients, loss, found = self._stepwise.gradients.gradients(
            self._problem, self._params, batch, self._drawn
        )
        params, state = stepped(
            self._params, self._state, gradients, self._active, optimiser, rates
        )
        if not self._found:
            self._found = {name: torch.zeros_like(value) for name, value in found.items()}
        for buffers, values in (
            (self._params, params),
            (self._state, state),
            (self._found, found),
            ({"loss": self._loss}, {"loss": loss}),
        ):
            for name, value in values.items():
                buffers[name].copy_(value)

    @staticmethod
    def _result(buffers: Arrays, real: int) -> dict[str, Tensor]:
        return {name: value[:real].clone() for name, value in buffers.items()}


def stepped(
    params: Arrays,
    state: Arrays,
    gradients: Arrays,
    active: Tensor,
    optimiser: Optimiser,
    rates: Mapping[str, float | Tensor],
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Apply one step's gradients to the active clients.

    Args:
        params: Parameters, each (K, ...).
        state: The optimiser's state, each (K, ...).
        gradients: Gradients like ``params``.
        active: Which clients take the step, (K,); all of the others stays as it is.
        optimiser: What makes directions of gradients.
        rates: Step size by parameter name, one for all clients or one for each, (K,).

    Returns:
        The new parameters and the new state.
    """
    directions, moved = optimiser.direction(params, gradients, state)
    ahead = {n: value - _by_client(rates[n], value) * directions[n] for n, value in params.items()}
    return _where(active, ahead, params), _where(active, moved, state)


def _by_client(rate: float | Tensor, value: Tensor) -> float | Tensor:
    """Shape one rate for each client, (K,), so that it multiplies a parameter (K, ...)."""
    return rate if isinstance(rate, float) else rate.view(-1, *[1] * (value.dim() - 1))


def _where(active: Tensor, new: Arrays, old: Arrays) -> dict[str, Tensor]:
    """Take the new values of the active clients (K,) and the old ones of the others."""
    return {
        name: torch.where(active.view(-1, *[1] * (value.dim() - 1)), new[name], value)
        for name, value in old.items()
    }
