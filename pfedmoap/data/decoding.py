"""Decode images in threads, ahead of whoever encodes them, into buffers that are used again."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

BUFFERS = 4  # one that is copied or encoded, one done with and filled anew, two decoded ahead
IMAGES_PER_TASK = 8  # what a thread decodes at a time: a task an image would cost the one lock more


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


def decoded_batches(
    decode: Callable[[int], Tensor],
    total: int,
    batch_size: int,
    shape: tuple[int, ...],
    *,
    pinned: bool = False,
) -> Iterator[tuple[range, Tensor]]:
    """Decode all images in order, in batches, with as many threads as there are cores.

    Pillow and torch give up Python's lock while they decode, resize and convert. Each thread
    writes its images where their batch needs them, so that nothing is put together afterwards.

    Args:
        decode: Gives the image at a position, of the same shape each, float32; called in threads.
        total: Number of images.
        batch_size: Images in a batch; the last one may have fewer.
        shape: Shape of one image.
        pinned: Put the batches into page-locked memory, which a GPU copies from by itself.

    Yields:
        The positions of a batch and the batch, (B, *shape). It is overwritten after the next but
        one is asked for: a batch may still be read while the next one is handed out.
    """
    workers = cores()
    size = max(1, min(batch_size, total))
    starts = range(0, total, size)
    buffers: list[Tensor] = []  # made when first filled: few images need few
    per_task = max(1, min(IMAGES_PER_TASK, -(-size // workers)))

    def fill(rows: Tensor, positions: range) -> None:
        for row, position in zip(rows, positions, strict=True):
            row.numpy()[...] = decode(position).numpy()  # torch would copy on all cores at once

    with ThreadPoolExecutor(workers, thread_name_prefix="decoder") as pool:

        def begin(batch: int) -> list[Future[None]]:
            if batch >= len(starts):
                return []
            if len(buffers) < BUFFERS:
                buffers.append(torch.empty(size, *shape, pin_memory=pinned))
            positions = range(starts[batch], min(starts[batch] + size, total))
            parts = range(0, len(positions), per_task)
            return [
                pool.submit(
                    fill,
                    buffers[batch % BUFFERS][part : part + len(positions[part : part + per_task])],
                    positions[part : part + per_task],
                )
                for part in parts
            ]

        try:
            filling = [begin(batch) for batch in range(BUFFERS - 2)]
            for batch, first in enumerate(starts):
                for future in filling.pop(0):
                    future.result()
                filling.append(begin(batch + BUFFERS - 2))
                positions = range(first, min(first + size, total))
                yield positions, buffers[batch % BUFFERS][: len(positions)]
        finally:  # nobody waits for images that nobody will read
            pool.shutdown(wait=False, cancel_futures=True)
