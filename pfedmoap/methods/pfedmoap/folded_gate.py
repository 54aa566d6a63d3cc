"""A gate as numbers and words beside its weights, and the gate made of them again."""

from collections.abc import Mapping
from typing import get_args

from torch import Tensor, nn

from pfedmoap.contract.folding import Scalar
from pfedmoap.methods.pfedmoap.attention_gate import AttentionGate, Pooling, Score
from pfedmoap.methods.pfedmoap.control_gates import LinearGate, MeanGate
from pfedmoap.storage.strict_json import integer, number


def gate_options(gate: nn.Module) -> dict[str, Scalar]:
    """Say what a gate is, apart from its weights."""
    if isinstance(gate, AttentionGate):
        return {
            "gate": "attention",
            "heads": gate.heads,
            "attention_scale": gate.scale,
            "pooling": gate.pooling,
            "score": gate.score,
            "renormalise": gate.renormalise,
        }
    return {"gate": "linear" if isinstance(gate, LinearGate) else "mean"}


def gate_of(options: Mapping[str, Scalar], weights: Mapping[str, Tensor]) -> nn.Module:
    """Make the gate again.

    Args:
        options: What `gate_options` said; other keys are left alone.
        weights: Its parameters by name.

    Raises:
        ValueError: An option or a shape is wrong.
    """
    kind = options.get("gate")
    if kind == "mean":
        gate: nn.Module = MeanGate()
    elif kind == "linear":
        outputs, width = _matrix(weights, "linear.weight")
        gate = LinearGate(width, outputs)
    elif kind == "attention":
        width, _ = _matrix(weights, "query.weight")
        pooling, score, scale = (options.get(n) for n in ("pooling", "score", "attention_scale"))
        if pooling not in get_args(Pooling) or score not in get_args(Score):
            raise ValueError(f"there is no gate with pooling {pooling!r} and score {score!r}")
        gate = AttentionGate(
            width,
            integer(options.get("heads"), "heads", 1, width),
            number(scale, "attention_scale"),
            pooling,  # type: ignore[arg-type]  # one of the literals, as checked
            score=score,  # type: ignore[arg-type]  # the same
            renormalise=options.get("renormalise") is True,
        )
    else:
        raise ValueError(f"there is no gate {kind!r}")
    try:
        gate.load_state_dict(dict(weights), strict=True)
    except RuntimeError as error:
        raise ValueError(
            f"the gate's weights do not fit: {' '.join(str(error).split())}"
        ) from error
    return gate


def _matrix(weights: Mapping[str, Tensor], name: str) -> tuple[int, int]:
    value = weights.get(name)
    if value is None or value.dim() != 2:
        raise ValueError(f"the gate has no matrix {name}")
    return int(value.shape[0]), int(value.shape[1])
