"""The structure of a causal language model, and its forward pass with a prefix in its layers."""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from pfedmoap.errors import BackboneError


@dataclass(frozen=True)
class Decoder:
    """Where a model has its layers, and how wide their keys and values are.

    Attributes:
        layers: Name of the list of layers within the model.
        depth: How many there are.
        heads: Heads that keys and values are divided into; with grouped-query attention there are
            fewer than for the queries.
        head_width: Width of one of them.
        positions: Most tokens that the model has positions for.
    """

    layers: str
    depth: int
    heads: int
    head_width: int
    positions: int

    @property
    def width(self) -> int:
        """Width W_kv of the keys, and of the values, of one token in one layer."""
        return self.heads * self.head_width


@dataclass(frozen=True)
class Prefix:
    """Keys and values that stand before the tokens in some layers, for one client.

    Attributes:
        values: (layers, 2, p, W_kv), keys before values.
        layers: Which of the model's layers they are for; layer 0 is one of them.
        visible: Whether tokens attend to it; hidden, it must change nothing.
    """

    values: Tensor
    layers: Sequence[int]
    visible: bool = True


def find_decoder(model: nn.Module) -> Decoder:
    """Find a model's layers, and try whether a prefix can stand in them.

    Args:
        model: A Hugging Face causal language model.

    Returns:
        The places.

    Raises:
        BackboneError: Its structure is another one, or it does not do what a prefix needs; the
            message says what.
    """
    config = _config(model)
    depth = getattr(config, "num_hidden_layers", None)
    alike = [
        (name, part)
        for name, part in model.named_modules()
        if isinstance(part, nn.ModuleList) and len(part) > 0 and len(set(map(type, part))) == 1
    ]
    name, layers = max(alike, key=lambda found: len(found[1]), default=("", ()))
    if depth is None or len(layers) != depth:
        raise _refusal(model, f"no list of its {depth} layers was found")
    if len(set(getattr(config, "layer_types", None) or [None])) > 1:
        raise _refusal(model, "its layers attend in different ways, and one prefix fits only one")
    if "position_ids" not in inspect.signature(_base(model).forward).parameters:
        raise _refusal(
            model,
            "it takes no position_ids, so that positions cannot begin at 0 behind a prefix; "
            "a newer transformers may help",
        )
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    positions = int(getattr(config, "max_position_embeddings", None) or 2**31)
    decoder = Decoder(name, depth, int(heads), int(width), positions)
    _try(model, decoder)
    return decoder


def hidden_states(
    model: nn.Module, decoder: Decoder, tokens: Tensor, valid: Tensor, prefix: Prefix | None
) -> Tensor:
    """Run a model to its last hidden states, behind the final norm.

    Positions are those of the tokens alone, whatever stands before them. The prefix goes in as the
    cache of past keys and values, so that the model's own attention reads it.

    Args:
        model: The model, or a skeleton with the weights to use in place.
        decoder: Its places.
        tokens: N sequences of token ids, (N, T).
        valid: False for padding, which stands behind the tokens, (N, T).
        prefix: What stands before the tokens.

    Returns:
        (N, T, W).
    """
    number, length = tokens.shape
    positions = torch.arange(length, device=tokens.device).expand(number, -1)
    if prefix is None:
        return _run(model, tokens, valid, positions, None)
    places = prefix.values.shape[2]
    before = torch.full((number, places), prefix.visible, device=tokens.device)
    mask = torch.cat([before, valid], dim=1)
    layers = cast(nn.ModuleList, model.get_submodule(decoder.layers))
    others = [layers[i] for i in range(decoder.depth) if i not in prefix.layers]
    with _without_prefix(others, length, places):
        return _run(model, tokens, mask, positions, _cache(decoder, prefix, number, model))


def output_head(model: nn.Module) -> nn.Module:
    """The map from last hidden states to logits."""
    head: nn.Module = cast(Any, model).get_output_embeddings()
    return head


def _run(model: nn.Module, tokens: Tensor, mask: Tensor, positions: Tensor, past: Any) -> Tensor:
    base = _base(model)
    found = base(
        input_ids=tokens,
        attention_mask=mask.long(),
        position_ids=positions,
        use_cache=False,
        return_dict=True,
        **{_cache_argument(base): past},
    )
    hidden: Tensor = found.last_hidden_state
    return hidden


def _cache_argument(base: nn.Module) -> str:
    """What a model calls the keys and values that it has: transformers renames it from 5.24 on."""
    return "cache" if "cache" in inspect.signature(base.forward).parameters else "past_key_values"


def _cache(decoder: Decoder, prefix: Prefix, number: int, model: nn.Module) -> Any:
    """A cache as if the prefix had been read already; layers without one have an empty place."""
    from transformers import DynamicCache

    dtype = next(model.parameters()).dtype
    split = prefix.values.to(dtype).unflatten(-1, (decoder.heads, -1)).transpose(2, 3)
    split = split[:, :, None].expand(-1, -1, number, -1, -1, -1)  # (layers, 2, N, H, p, d)
    rows = {layer: split[row] for row, layer in enumerate(prefix.layers)}
    empty = split[0, :, :, :, :0]
    cache = DynamicCache()
    for layer in range(decoder.depth):
        keys, values = rows.get(layer, empty)
        cache.update(keys, values, layer)
    return cache


@contextmanager
def _without_prefix(layers: Sequence[nn.Module], length: int, places: int) -> Iterator[None]:
    """Cut the prefix's columns off the mask, which a model makes once for all of its layers."""

    def shorten(value: Any) -> Any:  # whatever a layer is given
        is_mask = isinstance(value, Tensor) and value.dim() in (2, 4)
        return value[..., places:] if is_mask and value.shape[-1] == places + length else value

    def hook(_: nn.Module, args: Any, kwargs: Any) -> Any:
        return tuple(map(shorten, args)), {name: shorten(value) for name, value in kwargs.items()}

    handles = [layer.register_forward_pre_hook(hook, with_kwargs=True) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def _try(model: nn.Module, decoder: Decoder) -> None:
    """Compare with the model's own forward pass: the head alone, and with a masked prefix."""
    parameter = next(model.parameters())
    tokens = torch.arange(3, device=parameter.device)[None] % _config(model).vocab_size
    valid = torch.ones_like(tokens, dtype=torch.bool)
    shape = (decoder.depth, 2, 2, decoder.width)
    hidden_prefix = Prefix(parameter.new_ones(shape), range(decoder.depth), visible=False)
    try:
        expected = cast(Any, model)(input_ids=tokens, attention_mask=valid.long()).logits
        plain = output_head(model)(hidden_states(model, decoder, tokens, valid, None))
        behind = output_head(model)(hidden_states(model, decoder, tokens, valid, hidden_prefix))
    except Exception as error:  # a model of unknown structure may raise anything
        raise _refusal(model, f"a try failed: {type(error).__name__}: {error}") from error
    tolerance = 1e-3 if parameter.dtype == torch.float32 else 5e-2
    for found, what in (
        (plain, "its logits are not its head's on its last hidden states"),
        (behind, "a prefix that no token sees changes its logits: positions or masks move"),
    ):
        if not (found - expected).float().norm() <= tolerance * expected.float().norm():
            raise _refusal(model, what)


def _config(model: nn.Module) -> Any:
    return cast(Any, model).config


def _base(model: nn.Module) -> Any:
    return cast(Any, model).base_model


def _refusal(model: nn.Module, why: str) -> BackboneError:
    return BackboneError(
        f"{type(model).__name__} cannot have a prefix in its layers: {why}. GPT-2, OPT, Llama and "
        "models built like them can"
    )
