"""How much memory activations may take, and which parts of a pass are computed twice to save it.

A pass that is too large is cut into pieces. As many of them are kept for the backward pass as fit;
the rest is computed again there. **Where** a pass is cut depends on its shapes, on what the caller
says and on the device, never on what happens to be free: cut in the same places, the products are
the same, and a piece that is computed twice gives the same bits twice. So the same options on the
same machine give the same bytes, however much of its memory other programs have taken.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

SHARE = 0.5  # of what is free: the rest is for gradients, temporaries and whoever comes next
_WHOLE_BYTES = 2 * 2**30  # on a CPU passes up to this size are never cut
_PIECES = 8  # that a pass of the largest uncut size would have
GROUPS = (  # limits and use of a container's memory: cgroup 2, then 1
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
    ),
)


@dataclass(frozen=True)
class ActivationBound:
    """What a pass may keep for the backward pass.

    Attributes:
        whole_bytes: A pass up to this size is not cut.
        piece_bytes: Size of the pieces of a larger one.
        kept_bytes: What is kept of it; pieces beyond are computed again.
    """

    whole_bytes: int
    piece_bytes: int
    kept_bytes: int

    @classmethod
    def of(cls, device: torch.device, memory_bytes: int | None) -> "ActivationBound":
        """Make the bound that a caller asks for, or that fits a device.

        Args:
            device: Where the pass runs.
            memory_bytes: The bound; ``None`` takes `SHARE` of what is free, cut by 2 GiB on a CPU
                and by a quarter of all memory on CUDA.
        """
        if memory_bytes is not None:
            piece = max(1, memory_bytes // _PIECES)
            return cls(memory_bytes, piece, memory_bytes - piece)
        whole = _WHOLE_BYTES
        if device.type == "cuda":
            whole = torch.cuda.get_device_properties(device).total_memory // 4
        return cls(whole, whole // _PIECES, int(SHARE * free_bytes(device)))

    def units(self, count: int, unit_bytes: int) -> int:
        """How many of ``count`` equal units of a pass are one piece of it."""
        whole = count * unit_bytes <= self.whole_bytes
        return count if whole else max(1, self.piece_bytes // max(1, unit_bytes))

    def keeper(self, taken: int = 0) -> "Keeper":
        """Begin a pass of which ``taken`` bytes are kept already."""
        return Keeper(self.kept_bytes - taken)


class Keeper:
    """Keeps pieces of one pass while there is room.

    Args:
        room: Bytes that are left.
    """

    def __init__(self, room: int) -> None:
        self._room = room

    def run(self, call: Callable[..., Tensor], size: int, *args: Tensor) -> Tensor:
        """Compute a piece of ``size`` bytes of activations, to be kept or computed again.

        Nothing in the towers draws random numbers, whose state a captured step could not save.
        """
        if size <= self._room or not torch.is_grad_enabled():
            self._room -= size
            return call(*args)
        again: Tensor = checkpoint(call, *args, use_reentrant=False, preserve_rng_state=False)
        return again


def free_bytes(device: torch.device) -> int:
    """Memory that this process could still take on a device.

    On CUDA with what torch has reserved and does not use. On a CPU what the machine has available,
    or what a container's limit leaves, whichever is less.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return free + unused
    rooms = [room for room in map(_room, GROUPS) if room is not None]
    return min([available_bytes(), *rooms])


def available_bytes(table: Path = Path("/proc/meminfo")) -> int:
    """What Linux says is available; elsewhere twice the size that is never cut."""
    try:
        lines = table.read_text().splitlines()
    except OSError:
        return 2 * _WHOLE_BYTES
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return 1024 * int(found[0]) if found else 2 * _WHOLE_BYTES


def _room(group: tuple[str, str]) -> int | None:
    """What the limit of a container leaves; ``None`` where there is no limit."""
    try:
        limit, used = (Path(file).read_text().strip() for file in group)
        return max(0, int(limit) - int(used))
    except (OSError, ValueError):  # "max" is no number
        return None


@contextmanager
def kept_bytes() -> Iterator[Callable[[], int]]:
    """Count what autograd keeps of the passes inside, each tensor's storage once.

    Yields:
        Returns the bytes so far.
    """
    storages: dict[int, int] = {}

    def note(kept: Tensor) -> Tensor:
        storage = kept.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return kept

    with saved_tensors_hooks(note, lambda kept: kept):
        yield lambda: sum(storages.values())
