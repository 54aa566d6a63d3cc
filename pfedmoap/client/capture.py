"""Captures a step as a CUDA graph: a fixed list of kernels, launched by one call."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import torch

_WARM_UP_STEPS = 2  # before a capture: what is set up at first use may not be part of the graph


class Capture(Protocol):
    """Makes of a step a function that takes it again, without Python between its kernels."""

    def __call__(self, step: Callable[[], None]) -> Callable[[], None]:
        """Take a step some times, which must change nothing yet, and capture it.

        Args:
            step: Reads and writes tensors at fixed addresses, and does not wait for the device.

        Returns:
            Takes the step.
        """
        ...


def capture_for(device: torch.device) -> Capture | None:
    """What captures steps on a device; ``None`` where nothing does."""
    return CudaCapture(device) if device.type == "cuda" else None


class CudaCapture:
    """Captures steps of one CUDA device.

    All graphs share one pool of memory: they run one after the other, and none leaves anything
    there, so that all of them take as much as the largest. They share one stream, too, which their
    pool requires, and on which the libraries' work space is set up once.

    Args:
        device: The device.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        with torch.cuda.device(device):
            self._pool = torch.cuda.graph_pool_handle()
            self._stream = torch.cuda.Stream(device)

    def __call__(self, step: Callable[[], None]) -> Callable[[], None]:
        """See `Capture`."""
        with torch.cuda.device(self._device):
            before = torch.cuda.current_stream()
            self._stream.wait_stream(before)
            with torch.cuda.stream(self._stream):
                for _ in range(_WARM_UP_STEPS):
                    step()
            before.wait_stream(self._stream)
            graph = torch.cuda.CUDAGraph()
            try:
                # Other threads may use the device meanwhile; only this one is held to the rules.
                with (
                    _no_collection(),
                    torch.cuda.graph(
                        graph,
                        pool=self._pool,
                        stream=self._stream,
                        capture_error_mode="thread_local",
                    ),
                ):
                    step()
            except BaseException:
                torch.cuda.set_stream(before)  # a capture that fails may leave its own in place,
                self._pool = torch.cuda.graph_pool_handle()  # and its pool as one being captured
                raise
        return graph.replay


@contextmanager
def _no_collection() -> Iterator[None]:
    """Let Python's collector rest: what it frees may have to wait for the device."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
