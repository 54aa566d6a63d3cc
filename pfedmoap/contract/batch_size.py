"""How many clients train side by side, where the memory is to decide."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch

from pfedmoap.client.batches import Batch
from pfedmoap.client.local_training import DEFAULT_CLIENTS
from pfedmoap.client.problem import BatchWide, Problem
from pfedmoap.contract.stacking import cohort_of
from pfedmoap.contract.tasks import ClientTask, Setting
from pfedmoap.models.memory import SHARE, free_bytes, kept_bytes
from pfedmoap.wire.messages import Arrays

MOST = 1024  # more clients in a batch save nothing
AT_ONCE_AT_MOST = 64  # prompts that are only encoded, where the memory decides
_TEXTS_AT_ONCE = 6400  # class names in prompts that a GPU encodes in a call, where it has a choice
_BESIDE_GRAPH = 2  # temporaries and gradients take about as much again as the graph keeps

Begin = Callable[[list[ClientTask]], tuple[Problem, Arrays]]


def encoded_at_once(setting: Setting) -> int:
    """How many prompts are encoded in one call, without gradients.

    On a GPU as many as keep it busy: a call of few costs as much time as one of many.
    """
    size = setting.training.clients_per_batch
    chosen = AT_ONCE_AT_MOST if size == "auto" else size
    if setting.backbone.device.type == "cpu":
        return chosen
    return max(chosen, min(MOST, _TEXTS_AT_ONCE // len(setting.class_names)))


def fixed_batch_size(setting: Setting[Any]) -> int:
    """Return ``training.clients_per_batch``, or its default where ``auto`` is not measured."""
    size = setting.training.clients_per_batch
    return DEFAULT_CLIENTS if size == "auto" else size


def batch_size_for(
    tasks: Sequence[ClientTask],
    setting: Setting,
    begin: Begin,
    key: Callable[[ClientTask], Hashable] = lambda _: 0,
) -> int:
    """Return ``training.clients_per_batch``, or, for ``auto``, as many clients as fit.

    What one more client keeps for the backward pass is measured on one step of one client and of
    two, of each kind of task; the largest decides.

    Args:
        tasks: The round's tasks.
        setting: Training options and device.
        begin: Makes K tasks' local problem and initial parameters.
        key: Tasks with different keys have different problems.
    """
    size = setting.training.clients_per_batch
    if size != "auto":
        return size
    kinds = {key(task): task for task in tasks}
    most = max((_bytes_of_another(task, setting, begin) for task in kinds.values()), default=1)
    room = SHARE * free_bytes(setting.backbone.device)
    return max(1, min(MOST, int(room // (_BESIDE_GRAPH * most))))


def _bytes_of_another(task: ClientTask, setting: Setting, begin: Begin) -> int:
    """Bytes that a step keeps of one more client."""
    if not len(task.data):
        return 1
    one, two = (_bytes_of([task] * count, setting, begin) for count in (1, 2))
    return max(1, two - one)


def _bytes_of(tasks: list[ClientTask], setting: Setting, begin: Begin) -> int:
    problem, params = begin(tasks)
    cohort = cohort_of(tasks, setting.seed, setting.backbone.device)
    width = min(setting.training.batch_size, *cohort.sizes)
    features = {kind: views[:, :width, 0] for kind, views in cohort.data.features.items()}
    labels = cohort.data.labels[:, :width]
    batch = Batch(features, labels, torch.ones_like(labels, dtype=torch.float32), cohort.streams)
    leaves = {name: value.detach().requires_grad_() for name, value in params.items()}
    with torch.enable_grad(), kept_bytes() as count:
        shared = problem.represent(leaves)
        if isinstance(problem, BatchWide):
            shared = {**shared, **problem.settle(leaves, shared, batch)}
        each = problem.losses(leaves, shared, batch.features, labels)
        found = count()
    del each
    return found + sum(value.nbytes for value in params.values())
