"""How many numbers a configuration's noise is added to, found by one trial step without data."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pfedmoap.client.batches import Batch
from pfedmoap.client.privatizer import NoPrivacy
from pfedmoap.client.problem import Problem
from pfedmoap.contract.capabilities import NeedsServerData
from pfedmoap.contract.method import AnyMethod
from pfedmoap.contract.tasks import ClientData, ClientTask
from pfedmoap.models.clip.clip import FrozenCLIP
from pfedmoap.wire.messages import Arrays, ClientId, Update

_TWO = (ClientId(0), ClientId(1))


def uploaded_size(method: AnyMethod) -> int:
    """Numbers in one upload, which the noise of `release` and `central` is added to."""
    return sum(math.prod(spec.shape) for spec in method.uploads.values())


def stepped_size(method: AnyMethod, decoupled: bool) -> int | None:
    """Numbers in one private step's gradient, the most that a step of the first two rounds has.

    A client with one grey image begins a round, and is stopped at its first private step. In round
    2 two clients have uploaded what they were sent: some methods train more from then on.

    Args:
        method: The method.
        decoupled: Whether parameters that stay at home train apart, without noise.

    Returns:
        The number; ``None`` where no step can be tried without data.
    """
    backbone: object = method.setting.backbone
    if isinstance(method, NeedsServerData) or not isinstance(backbone, FrozenCLIP):
        return None
    side = backbone.preprocessing.size
    grey = torch.zeros(1, 3, side, side, device=backbone.device)
    found = backbone.features(grey, method.features)
    features = {kind: value.cpu()[:, None] for kind, value in found.items()}
    data = ClientData(features, torch.zeros(1, dtype=torch.int64))
    state = method.init()
    downloads = method.plan(state, _TWO, 1)
    sizes = [_of_step(method, ClientTask(downloads[0], None, data), decoupled)]
    if all(set(method.uploads) <= set(download.arrays) for download in downloads):
        sent = [{name: one.arrays[name] for name in method.uploads} for one in downloads]
        updates = [Update(1, client, own, 1) for client, own in zip(_TWO, sent, strict=True)]
        later = method.plan(method.aggregate(state, updates), _TWO, 2)
        sizes.append(_of_step(method, ClientTask(later[0], None, data), decoupled))
    return max((size for size in sizes if size is not None), default=None)


def _of_step(method: AnyMethod, task: ClientTask, decoupled: bool) -> int | None:
    try:
        method.train([task], _StopsAtAStep(decoupled))
    except _Reached as reached:
        return reached.size
    return None


@dataclass
class _Reached(Exception):  # noqa: N818  # no error: the trial's way out
    size: int


class _StopsAtAStep(NoPrivacy):
    def __init__(self, decoupled: bool) -> None:
        self._decoupled = decoupled

    @property
    def decoupled(self) -> bool:
        return self._decoupled

    def gradients(self, problem: Problem, params: Arrays, batch: Batch) -> tuple[Arrays, Tensor]:
        del problem, batch
        raise _Reached(sum(value[0].numel() for value in params.values()))
