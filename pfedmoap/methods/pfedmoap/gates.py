"""The gates that clients start from, by name, and one batch of them."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, device, nn

from pfedmoap.contract.stacking import stack
from pfedmoap.contract.tasks import ClientTask
from pfedmoap.errors import ConfigError
from pfedmoap.methods.pfedmoap.attention_gate import AttentionGate, Pooling, Score, gate_width
from pfedmoap.methods.pfedmoap.control_gates import LinearGate, MeanGate
from pfedmoap.wire.messages import Arrays

GateName = Literal["attention", "linear", "mean"]


def make_gate(
    name: GateName,
    dim: int,
    *,
    experts: int,
    width: int | Literal["auto"],
    heads: int,
    scale: float | Literal["sqrt"],
    pooling: Pooling,
    score: Score,
    renormalise: bool,
    seed: int,
) -> nn.Module:
    """Make a gate with its initial weights.

    Args:
        name: Which gate; only the attention gate reads ``width`` and what follows it.
        dim: Width D of the features.
        experts: Most experts k beside the own prompt.
        width: Width d_g; ``auto`` chooses it by `gate_width`.
        heads: Attention heads h.
        scale: See `AttentionGate`.
        pooling: See `AttentionGate`.
        score: See `AttentionGate`.
        renormalise: See `AttentionGate`.
        seed: Seed of the initial weights.

    Returns:
        From image features (B, D) and class features (E, C, D) to scores (B, C) and attention
        (B, C, E).

    Raises:
        ConfigError: The width exceeds D, or the heads do not divide it.
    """
    if name == "mean":
        return MeanGate()
    if name == "linear":
        return LinearGate(dim, 1 + experts, seed)
    chosen = gate_width(dim, heads) if width == "auto" else width
    if chosen > dim:
        raise ConfigError(
            f"gate_width {chosen} exceeds the backbone's feature width {dim}; use at most that"
        )
    return AttentionGate(chosen, heads, scale, pooling, seed, score=score, renormalise=renormalise)


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
