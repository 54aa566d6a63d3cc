"""Stack clients' arrays along a leading axis for training, and unstack the results."""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pfedmoap.client.batches import Cohort, StackedData, Stream
from pfedmoap.client.local_training import Trained
from pfedmoap.client.placement import brought_back, placed
from pfedmoap.contract.tasks import ClientResult, ClientTask
from pfedmoap.wire.messages import Arrays, Update

_LOSS, _STEPS = "/loss", "/steps"  # beside parameters, none of which has such a name


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
    return {name: stack_rows([own[name] for own in arrays], device) for name in arrays[0]}


def unstack(arrays: Arrays, clients: int) -> list[dict[str, Tensor]]:
    """Inverse of `stack`, on the CPU, each array in memory of its own."""
    moved = {name: value.detach().cpu() for name, value in arrays.items()}
    return [{name: value[row].clone() for name, value in moved.items()} for row in range(clients)]


def stack_arrays(tasks: Sequence[ClientTask], name: str, device: torch.device) -> Tensor:
    """Stack one downloaded array of K clients to (K, ...) on a device."""
    return stack_rows([task.download.arrays[name] for task in tasks], device)


def stack_rows(rows: Sequence[Tensor], device: torch.device) -> Tensor:
    """Stack K clients' tensors where they are, and move them to a device at once, (K, ...)."""
    return placed(torch.stack(list(rows)), device)


def stack_data(tasks: Sequence[ClientTask], device: torch.device) -> StackedData:
    """Stack the training data of K clients."""
    return StackedData.stack(
        [task.data.features for task in tasks], [task.data.labels for task in tasks], device
    )


def cohort_of(
    tasks: Sequence[ClientTask], seed: int, device: torch.device, phase: str | None = None
) -> Cohort:
    """Stack K clients' data for one round of training.

    Args:
        tasks: Their tasks.
        seed: The training seed.
        device: Where they train.
        phase: Name of the training if the round has several; see `Stream`.
    """
    return Cohort(
        stack_data(tasks, device),
        tuple(len(task.data) for task in tasks),
        tuple(Stream(seed, task.download.client, task.download.round, phase) for task in tasks),
    )


@dataclass(frozen=True)
class TrainedClient:
    """One client after local training.

    Attributes:
        task: What it was given.
        params: Its trained parameters, on the CPU, in memory of their own.
        loss: Its mean training loss over the last epoch; ``None`` where it took no step at all.
        steps: Steps that it took.
    """

    task: ClientTask
    params: Arrays
    loss: float | None
    steps: int

    def result(
        self,
        uploads: Arrays,
        keeps: Arrays,
        costs: Mapping[str, float] | None = None,
        lasting: Arrays | None = None,
    ) -> ClientResult:
        """Make the client's result from what it uploads and what it keeps.

        Args:
            uploads: Arrays to upload.
            keeps: Its local state for its next round.
            costs: What the round cost it; see `ClientResult`.
            lasting: What it keeps even if its update is refused.
        """
        download = self.task.download
        update = Update(
            round=download.round,
            client=download.client,
            arrays=uploads,
            num_examples=len(self.task.data),
            metrics={} if self.loss is None else {"train_loss": self.loss},
        )
        return ClientResult(update, keeps, costs or {}, lasting or {})


def trained_clients(tasks: Sequence[ClientTask], trained: Trained) -> list[TrainedClient]:
    """Unstack a trained cohort, in the order of its tasks."""
    return returning(tasks, trained)()


def returning(tasks: Sequence[ClientTask], trained: Trained) -> Callable[[], list[TrainedClient]]:
    """Begin to bring a trained cohort to the host.

    Args:
        tasks: Its tasks.
        trained: The cohort, on its device.

    Returns:
        Waits for it and unstacks it, in the order of its tasks.
    """
    wait = brought_back({_LOSS: trained.loss, _STEPS: trained.steps, **trained.params})

    def unstacked() -> list[TrainedClient]:
        arrays = wait()
        losses, steps = arrays.pop(_LOSS).tolist(), arrays.pop(_STEPS).tolist()
        own = unstack(arrays, len(tasks))
        return [TrainedClient(*one) for one in zip(tasks, own, losses, steps, strict=True)]

    return unstacked
