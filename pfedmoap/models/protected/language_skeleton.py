"""The auxiliary language model without weights, and its weights copied from the full model."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from pfedmoap.models.language.decoder import Decoder, Prefix
from pfedmoap.models.language.scoring import AnswerModel, Rows
from pfedmoap.models.protected.towers import Reduction
from pfedmoap.wire.messages import Arrays


@dataclass(frozen=True)
class Skeleton:
    """A language model of some layers of another, on the meta device: shapes and no values.

    Attributes:
        form: The model; layers that share their weights are tied.
        constants: What its configuration settles and no training changes (rotary frequencies,
            causal masks), by name.
        origins: Name in the whole model of each of its weights, by its own name.
    """

    form: AnswerModel
    constants: Arrays
    origins: dict[str, str]

    def __call__(
        self, weights: Arrays, rows: Rows, prefix: Tensor | None, *, score: bool
    ) -> Tensor:
        """Run it with weights; see `AnswerModel.forward`.

        Args:
            weights: One client's, by name.
            rows: N sequences.
            prefix: Keys and values of every layer, (layers, 2, p, W_kv).
            score: Whether to score the answers.
        """
        device = rows.tokens.device
        state = dict(weights) | {name: v.to(device) for name, v in self.constants.items()}
        before = None if prefix is None else Prefix(prefix, range(self.form.decoder.depth))
        named = {f"model.{name}": value for name, value in state.items()}
        found: Tensor = functional_call(
            self.form, named, (rows, before), {"score": score}, strict=True
        )
        return found

    def weights_of(self, model: nn.Module) -> dict[str, Tensor]:
        """Copy its weights out of the whole model, float32; tied ones are there once."""
        whole = dict(model.named_parameters(remove_duplicate=False))
        return {
            name: whole[origin].detach().float().clone() for name, origin in self.origins.items()
        }


def make_skeleton(model: nn.Module, decoder: Decoder, cut: Reduction) -> Skeleton:
    """Build the form of a reduction of a model.

    Every layer keeps its own index, which says where its keys and values are in the cache, also
    where it shares its weights with another.

    Args:
        model: The whole model.
        decoder: Its places.
        cut: Which layers are stored, and which of them runs where.

    Returns:
        The skeleton; it holds none of the model's weights.
    """
    config = copy.deepcopy(cast(Any, model).config)
    config.num_hidden_layers = len(cut.layers)
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[: len(cut.layers)]  # all of one kind
    with torch.device("meta"):
        form = cast(nn.Module, cast(Any, type(model))(config)).eval()
    layers = cast(nn.ModuleList, form.get_submodule(decoder.layers))
    first = [cut.layers.index(stored) for stored in range(len(cut.kept))]
    for i, stored in enumerate(cut.layers):
        if i != first[stored]:
            _tie(layers[i], layers[first[stored]])
    # A buffer that is not saved is no weight: every model of this configuration has the same.
    buffers = dict(model.named_buffers())
    constants = {name: buffers[name].detach().clone() for name, _ in form.named_buffers()}
    origins = {
        name: _origin(name, decoder.layers, cut.kept, first) for name, _ in form.named_parameters()
    }
    places = Decoder(
        decoder.layers, len(cut.layers), decoder.heads, decoder.head_width, decoder.positions
    )
    return Skeleton(AnswerModel(form, places), constants, origins)


def _tie(layer: nn.Module, other: nn.Module) -> None:
    """Make a layer share another's parameters."""
    for name, part in layer.named_modules():
        for key, value in other.get_submodule(name).named_parameters(recurse=False):
            setattr(part, key, value)


def _origin(name: str, layers: str, kept: Sequence[int], first: Sequence[int]) -> str:
    """Name in the whole model of a weight of the skeleton."""
    start = f"{layers}."
    if not name.startswith(start):
        return name
    number, _, rest = name[len(start) :].partition(".")
    return f"{start}{kept[first.index(int(number))]}.{rest}"
