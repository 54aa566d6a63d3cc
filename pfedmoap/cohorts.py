"""Cutting a round's tasks into batches of clients that can train side by side."""

from collections.abc import Callable, Hashable, Iterator, Sequence

import torch
from torch import Tensor

from pfedmoap.batches import StackedData, Stream
from pfedmoap.method import ClientTask
from pfedmoap.types import Arrays


def client_batches(
    tasks: Sequence[ClientTask], size: int, key: Callable[[ClientTask], Hashable] = lambda _: 0
) -> Iterator[list[ClientTask]]:
    """Group tasks that have the same shapes, in batches of at most ``size`` clients.

    Args:
        tasks: The round's tasks in any order.
        size: Largest number of clients in a batch.
        key: Clients with different keys are never in one batch.

    Yields:
        Batches of tasks; within a key, in the order of client ids.
    """
    groups: dict[Hashable, list[ClientTask]] = {}
    for task in sorted(tasks, key=lambda task: task.download.client):
        groups.setdefault(key(task), []).append(task)
    for group in groups.values():
        for start in range(0, len(group), size):
            yield group[start : start + size]


def stack(arrays: Sequence[Arrays], device: torch.device) -> dict[str, Tensor]:
    """Stack K clients' arrays of equal names and shapes to (K, ...) on a device."""
    return {name: torch.stack([own[name] for own in arrays]).to(device) for name in arrays[0]}


def unstack(arrays: Arrays, clients: int) -> list[dict[str, Tensor]]:
    """Inverse of `stack`, on the CPU, each array in memory of its own."""
    moved = {name: value.detach().cpu() for name, value in arrays.items()}
    return [{name: value[row].clone() for name, value in moved.items()} for row in range(clients)]


def stack_arrays(tasks: Sequence[ClientTask], name: str, device: torch.device) -> Tensor:
    """Stack one downloaded array of K clients to (K, ...) on a device."""
    return torch.stack([task.download.arrays[name] for task in tasks]).to(device)


def stack_data(tasks: Sequence[ClientTask], device: torch.device) -> StackedData:
    """Stack the training data of K clients."""
    return StackedData.stack(
        [task.data.features for task in tasks], [task.data.labels for task in tasks], device
    )


def streams(tasks: Sequence[ClientTask], seed: int) -> list[Stream]:
    """Name the random streams of K clients in this round."""
    return [Stream(seed, task.download.client, task.download.round) for task in tasks]
