"""Moving batches to a device and results back, beside what the device computes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

MEMORY_SHARE = 0.5
"""Part of a GPU's free memory that a batch may take."""

PROBED = 16
"""Images that are encoded to see how much memory one takes."""


@dataclass(frozen=True)
class OnItsWay:
    """Results that are being copied to the host.

    Attributes:
        arrays: Where they arrive, on the CPU.
        arrived: Set when they are there; ``None`` where they are there already.
    """

    arrays: Mapping[str, Tensor]
    arrived: torch.cuda.Event | None

    def wait(self) -> Mapping[str, Tensor]:
        """Wait for these results alone, not for work that was given to the device since."""
        if self.arrived is not None:
            self.arrived.synchronize()
        return self.arrays


class Transfer:
    """Copies for one device; on the CPU nothing is copied.

    Args:
        device: The device.

    Examples:
        >>> transfer = Transfer(torch.device("cpu"))
        >>> on_its_way = transfer.back({"image": transfer.there(torch.ones(2, 3))})
        >>> on_its_way.wait()["image"].sum().item()
        6.0
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.pinned = device.type == "cuda"
        self._copies = torch.cuda.Stream(device) if self.pinned else None

    def there(self, batch: Tensor) -> Tensor:
        """Copy a pinned batch to the device, on a stream of its own.

        The batch must stay as it is until a result that was made of it has arrived.
        """
        if self._copies is None:
            return batch.to(self.device)
        with torch.cuda.stream(self._copies):
            moved = batch.to(self.device, non_blocking=True)
        computing = torch.cuda.current_stream(self.device)
        computing.wait_stream(self._copies)
        moved.record_stream(computing)  # its memory is not given away while it is computed with
        return moved

    def back(self, arrays: Mapping[str, Tensor]) -> OnItsWay:
        """Begin to copy results to the host, as float32."""
        if self._copies is None:
            return OnItsWay(
                {n: value.to("cpu", torch.float32) for n, value in arrays.items()}, None
            )
        found = {}
        for name, value in arrays.items():
            found[name] = torch.empty(value.shape, dtype=torch.float32, pin_memory=True)
            found[name].copy_(value, non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record(torch.cuda.current_stream(self.device))
        return OnItsWay(found, arrived)


def images_at_once(
    encode: Callable[[Tensor], object],
    shape: tuple[int, ...],
    device: torch.device,
    *,
    at_least: int,
    most_bytes: int,
) -> int:
    """Choose how many images a device encodes in a call.

    Args:
        encode: Encodes images (B, *shape) on the device.
        shape: Shape of one image, float32.
        device: The device.
        at_least: What a CPU gets: more do not make it faster.
        most_bytes: Most that the images of one batch may take on the host.

    Returns:
        On a GPU as many as take half of its free memory, in whole multiples of ``at_least`` and
        within ``most_bytes``; but at least one multiple.
    """
    if device.type != "cuda":
        return at_least
    image_bytes = 4 * torch.Size(shape).numel()
    encode(torch.zeros(1, *shape, device=device))  # what is set up once is not an image's
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    encode(torch.zeros(PROBED, *shape, device=device))
    torch.cuda.synchronize(device)
    taken = (torch.cuda.max_memory_allocated(device) - before) / PROBED
    free, _ = torch.cuda.mem_get_info(device)
    return fitting(taken, free, image_bytes, at_least=at_least, most_bytes=most_bytes)


def fitting(taken: float, free: float, image_bytes: int, *, at_least: int, most_bytes: int) -> int:
    """How many images fit: see `images_at_once`.

    Args:
        taken: Bytes of device memory that one image takes.
        free: Free bytes of device memory.
        image_bytes: Bytes of one image on the host.
        at_least: The result is a multiple of it.
        most_bytes: Most that a batch may take on the host.
    """
    most = min(MEMORY_SHARE * free / max(taken, 1.0), most_bytes / image_bytes)
    return max(1, int(most // at_least)) * at_least
