"""What stands in for a CUDA graph on a machine without a GPU: a step's list of operators.

A `Recording` is made while a step runs once. Its `replay` overwrites everything that the step makes
and runs exactly these operators again, on the same memory, without any Python of the step between
them. So whatever Python decides from values, or reads from elsewhere, is in the list once and for
all, as it is in a graph, and a later step with other examples gives other results than the loop.
"""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Step = Callable[[], None]


class Recording(TorchDispatchMode):
    """The operators that ran while it was entered.

    Attributes:
        steps: Operator, arguments, and the tensors that it made; none where it changed a tensor.
    """

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[tuple[Callable, tuple, dict, list[Tensor]]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        found = func(*args, **kwargs)
        self.note(func, args, kwargs, found)
        return found

    def note(self, func, args, kwargs, found) -> None:
        """Write one operator down."""
        changes, views = _nature(func)
        if changes:
            self.steps.append((func, args, kwargs, []))
        elif not views:
            outs = [each for each in tree_leaves(found) if isinstance(each, Tensor)]
            places = {
                _place(each) for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)
            }
            if not any(
                _place(each) in places for each in outs
            ):  # no view, whatever its schema says
                self.steps.append((func, args, kwargs, outs))

    def replay(self) -> None:
        """Run the operators again."""
        with torch.no_grad():
            for _, _, _, outs in self.steps:
                for out in outs:
                    out.fill_(float("nan") if out.is_floating_point() else 0)
            for func, args, kwargs, outs in self.steps:
                found = func(*args, **kwargs)
                if len(outs) == 1:
                    outs[0].copy_(found if isinstance(found, Tensor) else found[0])
                elif outs:
                    fresh = [each for each in tree_leaves(found) if isinstance(each, Tensor)]
                    for out, new in zip(outs, fresh, strict=True):
                        out.copy_(new)


@cache
def _nature(func) -> tuple[bool, bool]:
    """Whether an operator changes its arguments, and whether it gives views of them."""
    views = any(each.alias_info is not None for each in func._schema.returns)
    return func._schema.is_mutable, views


def _place(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


class Recordings:
    """A `pfedmoap.client.capture.Capture` that records.

    Attributes:
        made: What was recorded, in order.
    """

    def __init__(self) -> None:
        self.made: list[Recording] = []

    def __call__(self, step: Step) -> Step:
        step()  # what is set up at first use
        with Recording() as recording:
            step()
        self.made.append(recording)
        return recording.replay


def record_steps(monkeypatch) -> Recordings:
    """Let steps that are not taken plainly be recorded and replayed."""
    found = Recordings()
    monkeypatch.setattr("pfedmoap.client.step_cache.capture_for", lambda _: found)
    return found
