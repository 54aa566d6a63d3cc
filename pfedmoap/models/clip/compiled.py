"""A prompt encoder compiled by torch, which fuses small operations; plain where it cannot be."""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn

from pfedmoap.errors import PFedMoAPError

logger = logging.getLogger(__name__)

_PLAINLY: ContextVar[bool] = ContextVar("_PLAINLY", default=False)


@contextmanager
def uncompiled() -> Iterator[None]:
    """Let encoders run as they are for a while: compiled passes have no per-example gradients."""
    before = _PLAINLY.set(True)
    try:
        yield
    finally:
        _PLAINLY.reset(before)


class CompiledEncoder(nn.Module):
    """Compiles an encoder at its first training pass; other passes go through the plain one.

    Evaluation has as many shapes as batches, each of which would be compiled anew. The first pass
    takes from seconds (a small model) to a minute (ViT-B/16 on a GPU). Sums are taken in another
    order: on an H200, in bf16, prompts that moved by 2.7e-3 differ by 6e-5.

    Args:
        plain: From contexts (E, L, W) to unit-norm class features (E, C, D).
    """

    def __init__(self, plain: nn.Module) -> None:
        super().__init__()
        self.plain = plain
        self._compiled: Callable[[Tensor], Tensor] | None = None
        self._failed = False

    def forward(self, contexts: Tensor) -> Tensor:
        """Encode; see `SharedPrefixEncoder.forward`."""
        trains = torch.is_grad_enabled() and contexts.requires_grad
        if self._failed or not trains or _PLAINLY.get():
            return self._plainly(contexts)
        if self._compiled is None:
            self._compiled = torch.compile(self.plain, dynamic=False)
        try:
            with warnings.catch_warnings():  # `training.tf32` says it, and is false
                warnings.filterwarnings("ignore", message="TensorFloat32 tensor cores")
                return self._compiled(contexts)
        except PFedMoAPError:
            raise
        except Exception as error:  # what compilers raise, and the tools that they start
            self._failed = True
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            logger.warning(
                "training.compile: the encoder cannot be compiled here and runs as it is (%s)",
                reason,
            )
            return self._plainly(contexts)

    def _plainly(self, contexts: Tensor) -> Tensor:
        found: Tensor = self.plain(contexts)
        return found

    def __getattr__(self, name: str) -> Any:  # whatever the plain encoder has
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("plain"), name)
