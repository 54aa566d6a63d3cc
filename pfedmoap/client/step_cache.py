"""Keeps the steps of recent shapes, so that a capture serves many batches of clients."""

import logging
from collections import OrderedDict
from collections.abc import Hashable

import torch

from pfedmoap.client.capture import Capture, capture_for
from pfedmoap.client.problem import WaitsForDevice
from pfedmoap.client.problem_rows import (
    NotStaticError,
    client_rows,
    identity,
    identity_of_options,
)
from pfedmoap.client.static_step import (
    Start,
    StaticStep,
    Stepwise,
    padded_clients,
    padded_examples,
)
from pfedmoap.errors import PFedMoAPError
from pfedmoap.wire.messages import Arrays

logger = logging.getLogger(__name__)

_MOST = 8  # steps that are kept: a method trains few problems, on few sizes of batches


class StepCache:
    """Steps by shapes, method and options; the least recently used one makes room.

    A copy of a cache is empty.

    Args:
        most: Steps that are kept.
    """

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._steps: OrderedDict[Hashable, tuple[StaticStep | None, object]] = OrderedDict()
        self._captures: dict[torch.device, Capture | None] = {}
        self._said: set[str] = set()

    def __len__(self) -> int:
        return len(self._steps)

    def __reduce__(self) -> tuple[type["StepCache"], tuple[int]]:
        return StepCache, (self._most,)

    def find(
        self, start: Start, stepwise: Stepwise, *, most: int, options: Hashable = None
    ) -> StaticStep | None:
        """Return the step for some clients, made anew where there is none.

        Args:
            start: The clients.
            stepwise: How a step changes parameters.
            most: Clients of a full batch.
            options: All else that two steps must have in common.

        Returns:
            The step; ``None`` where this problem cannot be in one, which a log line says once.
        """
        clients = padded_clients(len(start.plan.streams), most)
        problem, device = start.problem, start.data.labels.device
        waits = problem.waits if isinstance(problem, WaitsForDevice) else None
        if waits is not None and device.type != "cpu":
            self._say(start, waits)
            return None
        try:
            key = (_key(start, stepwise, clients), options)
        except NotStaticError as error:
            self._say(start, str(error))
            return None
        if key in self._steps:
            self._steps.move_to_end(key)
            return self._steps[key][0]
        while len(self._steps) >= self._most:
            self._steps.popitem(last=False)
        step = self._make(start, stepwise, clients)
        # The key names objects by identity, so that they must live on; a step holds them itself.
        self._steps[key] = (step, (start.problem, stepwise) if step is None else None)
        return step

    def _make(self, start: Start, stepwise: Stepwise, clients: int) -> StaticStep | None:
        device = start.data.labels.device
        try:
            if device not in self._captures:
                self._captures[device] = capture_for(device)
            step = StaticStep(start, stepwise, clients)
            step.prepare(self._captures[device])
        except PFedMoAPError:
            raise
        except Exception as error:  # whatever a kernel says that cannot be captured
            self._say(start, f"{type(error).__name__}: {str(error).splitlines()[:1]}")
            return None
        return step

    def _say(self, start: Start, why: str) -> None:
        name = type(start.problem).__name__
        if name not in self._said:
            self._said.add(name)
            logger.warning(
                "steps of %s are not captured and run one operation after the other (%s); "
                "--training.graphs false says so beforehand",
                name,
                why,
            )


def _key(start: Start, stepwise: Stepwise, clients: int) -> Hashable:
    plan, data = start.plan, start.data
    return (
        identity(start.problem),
        identity_of_options(stepwise.gradients),
        identity_of_options(stepwise.optimiser),
        tuple(sorted((n, rate) for n, rate in stepwise.rates.items() if n not in start.rates)),
        tuple(sorted(start.rates)),
        clients,
        padded_examples(plan.index.shape[2]),
        plan.owner is not None,
        data.labels.device,
        *map(_shapes, (client_rows(start.problem), start.params, start.state)),
        tuple((kind, views.shape[3:], views.dtype) for kind, views in data.features.items()),
    )


def _shapes(arrays: Arrays) -> Hashable:
    return tuple((name, value.shape[1:], value.dtype) for name, value in arrays.items())
