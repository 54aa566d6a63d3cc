"""Moves between host and device: one an array, through pinned memory, beside what is computed."""

from collections.abc import Callable

import torch
from torch import Tensor

from pfedmoap.wire.messages import Arrays


def placed(value: Tensor, device: torch.device) -> Tensor:
    """Put a tensor on a device; from the host to CUDA asynchronously.

    The caching allocator of pinned memory keeps the staging copy alive until the move is done.
    """
    if device.type == "cuda" and value.device.type == "cpu":
        return value.pin_memory().to(device, non_blocking=True)
    return value.to(device)


def copy_into(buffer: Tensor, value: Tensor) -> None:
    """Copy a tensor of the same shape into a buffer; from the host to CUDA asynchronously."""
    if buffer.device.type == "cuda" and value.device.type == "cpu":
        value = value.pin_memory()
    buffer.copy_(value, non_blocking=True)


def brought_back(arrays: Arrays) -> Callable[[], dict[str, Tensor]]:
    """Begin to copy tensors to the host.

    Args:
        arrays: Named tensors on one device; they may be overwritten or freed at once.

    Returns:
        Waits for these copies alone, not for work that was given to the device since, and returns
        them. On a CPU they are the tensors themselves.
    """
    cuda = [value for value in arrays.values() if value.device.type == "cuda"]
    if not cuda:
        return lambda: {name: value.detach().cpu() for name, value in arrays.items()}
    found = {}
    for name, value in arrays.items():
        found[name] = torch.empty(value.shape, dtype=value.dtype, pin_memory=True)
        found[name].copy_(value.detach(), non_blocking=True)
    arrived = torch.cuda.Event()
    arrived.record(torch.cuda.current_stream(cuda[0].device))

    def wait() -> dict[str, Tensor]:
        arrived.synchronize()
        return found

    return wait
