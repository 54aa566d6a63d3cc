"""The gates that clients start from, by name, and one batch of them."""

from collections.abc import Callable, Sequence
from typing import Literal

from torch import Tensor, device, nn

from pfedmoap.contract.stacking import stack
from pfedmoap.contract.tasks import ClientTask
from pfedmoap.methods.pfedmoap.control_gates import LinearGate, MeanGate
from pfedmoap.wire.messages import Arrays

GateName = Literal["attention", "linear", "mean"]


def make_gate(
    name: GateName, attention: Callable[[], nn.Module], width: int, experts: int, seed: int
) -> nn.Module:
    """Make one gate with the weights that all clients start from.

    Args:
        name: Which.
        attention: Makes the attention gate.
        width: Width D of the image feature.
        experts: Largest number of experts E, own prompt included.
        seed: Seed of a linear gate's weights.
    """
    if name == "attention":
        return attention()
    return LinearGate(width, experts, seed) if name == "linear" else MeanGate()


def stack_gates(
    tasks: Sequence[ClientTask], initial: Arrays, shared: bool, where: device
) -> dict[str, Tensor]:
    """Stack K clients' gates (K, ...): each its own, the averaged, or the initial one.

    Args:
        tasks: K tasks.
        initial: The gate that all clients start from, by name.
        shared: Whether clients are sent the averaged gate.
        where: The device.
    """
    sources = [task.download.arrays if shared else task.local for task in tasks]
    starts = [
        {name: (source or {}).get(name, value) for name, value in initial.items()}
        for source in sources
    ]
    return stack(starts, where)
