"""A device beside the CPU on a machine that has none, which notices what a GPU would choke on.

A tensor on this device says that it lies on ``meta`` and keeps its numbers on the CPU, so that all
code which moves tensors by their ``device`` runs as it does on a GPU. `Elsewhere` sees every
operator, autograd's and vmap's too. It refuses operators that mix both places, counts copies and
what waits for the device, and while a step is recorded it refuses what a CUDA graph cannot hold.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

from tests.helpers.recorded_steps import Recording, Recordings, Step

PLACE = torch.device("meta")
aten = torch.ops.aten
WAITS = {
    *(aten._local_scalar_dense.default, aten.equal.default, aten.is_nonzero.default),
    *(aten.nonzero.default, aten.masked_select.default, aten._unique2.default),
    *(aten.unique_dim.default, aten.unique_consecutive.default, aten.bincount.default),
    *(aten.repeat_interleave.Tensor, aten._linalg_svd.default, aten._linalg_eigh.default),
}
"""Operators whose caller waits for a GPU: numbers for Python, and shapes that depend on numbers."""

MOVES = {aten._to_copy.default, aten.copy_.default}
INDEXING = ("aten.index.", "aten.index_put", "aten._index_put", "aten._unsafe_index")
DRAWS = ("aten.rand", "aten.normal", "aten.bernoulli", "aten.multinomial", "aten.native_dropout")


class FaultError(Exception):
    """Something that a GPU cannot do, or not within a captured step."""


class There(Tensor):
    """A tensor of the other device.

    Attributes:
        near: Its numbers, on the CPU.
    """

    near: Tensor

    @staticmethod
    def __new__(cls, near: Tensor) -> "There":
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            near.shape,
            strides=near.stride(),
            storage_offset=near.storage_offset(),
            dtype=near.dtype,
            device=PLACE,
        )
        made.near = near
        return made

    def __repr__(self) -> str:
        return f"There({self.near})"

    def tolist(self) -> list:
        """Copy to the host, which waits; torch refuses it to subclasses."""
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise FaultError(f"{func} on the other device, outside of `Elsewhere`")


class Elsewhere(TorchDispatchMode):
    """While it is entered, the device exists.

    Attributes:
        waits: How often which operator waited for the device.
        copies: Copies ``to the device`` and ``to the host``.
        recording: Where operators are written down; ``None`` while no step is recorded.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        self.copies: Counter[str] = Counter()
        self.recording: Recording | None = None

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        tensors = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        there = [each for each in tensors if isinstance(each, There)]
        target = kwargs.get("device")
        if func is aten.copy_.default:
            goes = isinstance(args[0], There)
        else:
            goes = bool(there) if target is None else torch.device(target).type == PLACE.type
        # Operators element by element take a host's single number; `where` would copy it.
        alone = 1 if func is aten.where.self else 0
        here = any(each.dim() >= 1 - alone for each in tensors if not isinstance(each, There))
        self._check(func, args, there, here, goes)
        near_args, near_kwargs = tree_map(_near, (args, kwargs))
        if target is not None:
            near_kwargs["device"] = torch.device("cpu")
        found = func(*near_args, **near_kwargs)
        if self.recording is not None:
            self.recording.note(func, near_args, near_kwargs, found)
        if not goes:
            return found
        if func is aten.copy_.default:
            return args[0]
        wrapped = tree_map(lambda each: There(each) if isinstance(each, Tensor) else each, found)
        if not there or target is not None or func in MOVES:
            return wrapped
        return return_and_correct_aliasing(func, args, kwargs, wrapped)

    def _check(self, func, args, there: list, here: bool, goes: bool) -> None:
        name, inside = str(func), self.recording is not None
        if func in MOVES:
            source = args[1] if func is aten.copy_.default else args[0]
            if isinstance(source, There) != goes:
                way = "to the device" if goes else "to the host"
                self.copies[way] += 1
                if inside:
                    raise FaultError(f"{name} copies {way} within a step: {tuple(source.shape)}")
            return
        given = name.startswith(INDEXING) and isinstance(args[0], There)
        if there and here and not (given and not inside):  # a GPU copies a host's indices
            raise FaultError(f"{name} mixes tensors of both places")
        waits = func in WAITS or (
            name.startswith(INDEXING)
            and any(each is not None and each.dtype is torch.bool for each in args[1])
        )
        if there and waits:
            self.waits[name] += 1
        if inside and (waits or not goes or name.startswith(DRAWS)):
            fault = "waits for the device" if waits else "draws" if goes else "is on the host"
            raise FaultError(f"{name} {fault} within a step")


def _near(value):
    return value.near if isinstance(value, There) else value


class RecordingsThere(Recordings):
    """Records steps on the other device.

    Args:
        place: The device.
    """

    def __init__(self, place: Elsewhere) -> None:
        super().__init__()
        self._place = place

    def __call__(self, step: Step) -> Step:
        step()
        self._place.recording = recording = Recording()
        try:
            step()
        finally:
            self._place.recording = None
        self.made.append(recording)
        return recording.replay


@contextmanager
def elsewhere(monkeypatch) -> Iterator[tuple[Elsewhere, Recordings]]:
    """Enter the device, on which steps are recorded and replayed."""
    with Elsewhere() as place:
        found = RecordingsThere(place)
        monkeypatch.setattr("pfedmoap.client.step_cache.capture_for", lambda _: found)
        yield place, found
