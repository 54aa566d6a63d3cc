"""Moves from the host to the device: one an array, through pinned memory, without waiting."""

import torch
from torch import Tensor


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
