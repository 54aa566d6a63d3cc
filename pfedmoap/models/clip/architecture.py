"""The architecture of an image tower as data, and the tower made of it and of its weights."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from pfedmoap.errors import BackboneError
from pfedmoap.storage.strict_json import integer

LARGEST = 65_536
"""No width, number of pixels or of heads is larger."""

MOST_LAYERS = 512
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")  # no colon, slash: nothing that is fetched by a name
_NESTED = ("act_kwargs", "norm_kwargs")


@dataclass(frozen=True)
class Architecture:
    """What open_clip builds an image tower of.

    Attributes:
        embed_dim: Width D of the joint space.
        quick_gelu: Whether the tower has the fast GELU.
        vision: Options of the tower, as open_clip's ``vision_cfg`` names them.
    """

    embed_dim: int
    quick_gelu: bool
    vision: Mapping[str, Any]  # JSON

    def __post_init__(self) -> None:
        try:
            integer(self.embed_dim, "embed_dim", 1, LARGEST)
            _check(self.vision)
        except ValueError as error:
            raise BackboneError(f"the architecture of the image tower is wrong: {error}") from error

    def build(self, weights: Mapping[str, Tensor]) -> nn.Module:
        """Build the tower; nothing is fetched.

        Args:
            weights: All of its parameters and buffers, by name; they are computed with in float32.

        Returns:
            The frozen tower in evaluation mode, on the CPU.

        Raises:
            BackboneError: Weights are missing, too many or of another shape. Nothing of the size
                that the architecture asks for was allocated before that is known, but for towers
                of timm, whose sizes are those of its list.
        """
        full = {
            name: value.float() if value.is_floating_point() else value
            for name, value in weights.items()
        }
        timm = self.vision.get("timm_model_name") is not None
        try:
            with torch.random.fork_rng(devices=[]), torch.device("cpu" if timm else "meta"):
                tower = self._built()
            tower.load_state_dict(full, strict=True, assign=not timm)
        except Exception as error:  # open_clip, timm and torch raise many kinds
            reason = " ".join(str(error).split())[:500]
            raise BackboneError(
                f"the image tower cannot be made of this architecture and these weights: {reason}"
            ) from error
        if any(part.is_meta for part in (*tower.parameters(), *tower.buffers())):
            raise BackboneError("the image tower has parts that its weights do not hold")
        return tower.eval().requires_grad_(False)

    def _built(self) -> nn.Module:
        from open_clip.model import _build_vision_tower

        vision = {**self.vision}
        if vision.get("timm_model_name") is not None:
            vision["timm_model_pretrained"] = False
        tower: nn.Module = _build_vision_tower(self.embed_dim, vision, self.quick_gelu)
        return tower


def _check(vision: Mapping[str, Any]) -> None:
    """Check the types and sizes of a tower's options; raises `ValueError`."""
    from open_clip import CLIPVisionCfg

    if not isinstance(vision, Mapping):
        raise ValueError("vision is no object")
    if unknown := sorted(set(vision) - {field.name for field in fields(CLIPVisionCfg)}):
        raise ValueError(f"open_clip knows no {', '.join(unknown)} of an image tower")
    for name, value in vision.items():
        if name in _NESTED and isinstance(value, Mapping):
            for inner, each in value.items():
                _check_value(f"{name}.{inner}", each)
        elif name == "layers" and isinstance(value, list | tuple):
            if len(value) != 4:
                raise ValueError(f"layers must be one number or four, got {len(value)}")
            for each in value:
                integer(each, name, 1, MOST_LAYERS)
        elif name == "layers":
            integer(value, name, 1, MOST_LAYERS)
        elif isinstance(value, list | tuple) and len(value) == 2:
            for each in value:
                integer(each, name, 1, LARGEST)
        else:
            _check_value(name, value)


def _check_value(name: str, value: object) -> None:
    if value is None or isinstance(value, bool):
        return
    if isinstance(value, int):
        integer(value, name, 0, LARGEST)
    elif isinstance(value, float):
        if not math.isfinite(value) or abs(value) > LARGEST:
            raise ValueError(f"{name} is out of range")
    elif not isinstance(value, str) or not (value == "" or _NAME.fullmatch(value)):
        raise ValueError(f"{name} must be a number, true, false, null or a plain name")
