"""The prefix within a model, against the model's own forward."""

import inspect

import pytest
import torch
from torch import nn

from pfedmoap.errors import BackboneError
from pfedmoap.models.language.decoder import Prefix, find_decoder, hidden_states, output_head
from tests.helpers.language_models import FAMILIES, make_model

pytest.importorskip("transformers")

TOKENS = torch.tensor([[5, 6, 7, 8, 9], [9, 8, 7, 0, 0]])
VALID = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])


def run(model: nn.Module, prefix: Prefix | None = None) -> torch.Tensor:
    return hidden_states(model, find_decoder(model), TOKENS, VALID, prefix)


def prefix_for(model: nn.Module, places: int, layers: range | list[int] = range(4)) -> Prefix:
    return Prefix(torch.randn(len(layers), 2, places, find_decoder(model).width), layers)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_layers_are_found_and_grouped_heads_counted(family):
    decoder = find_decoder(make_model(family))
    assert decoder.depth == 4
    assert decoder.width == (8 if family == "llama" else 16)
    assert decoder.positions == 64


@pytest.mark.parametrize("family", FAMILIES)
def test_without_prefix_it_is_the_model_itself_also_behind_padding(family):
    model = make_model(family)
    logits = output_head(model)(run(model))
    torch.testing.assert_close(logits[0], model(input_ids=TOKENS[:1]).logits[0])
    torch.testing.assert_close(logits[1, :3], model(input_ids=TOKENS[1:, :3]).logits[0])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("places", [0, 3])
def test_positions_begin_at_zero_behind_a_prefix(family, places):
    """A prefix that is empty, or that no token may look at, must change nothing."""
    model = make_model(family)
    values = prefix_for(model, places).values
    hidden = run(model, Prefix(values, range(4), visible=False))
    torch.testing.assert_close(hidden[VALID], run(model)[VALID])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prefix_of_a_text_s_own_keys_and_values_continues_that_text(family):
    """The slow truth: what the model itself keeps of earlier tokens is a prefix like any other.

    Positions begin anew behind it, so the reference is told the same positions.
    """
    model, decoder = make_model(family), find_decoder(make_model(family))
    before = torch.tensor([[10, 11]])
    told = model(input_ids=before, use_cache=True)
    past = told["cache"] if "cache" in told else told["past_key_values"]
    pairs = [(layer[0], layer[1]) for layer in past]  # each (1, H, 2, d)
    flat = [torch.stack([part[0].transpose(0, 1).flatten(1) for part in pair]) for pair in pairs]
    found = hidden_states(
        model, decoder, TOKENS[:1], VALID[:1], Prefix(torch.stack(flat), range(4))
    )
    together = model.base_model(
        input_ids=torch.cat([before, TOKENS[:1]], dim=1),
        attention_mask=torch.ones(1, 7, dtype=torch.int64),
        position_ids=torch.tensor([[0, 1, 0, 1, 2, 3, 4]]),
        use_cache=False,
    ).last_hidden_state
    torch.testing.assert_close(found, together[:, 2:])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("spelling", ["past_key_values", "cache"])
def test_the_prefix_goes_in_by_either_name_that_transformers_gives_it(
    family, spelling, monkeypatch
):
    """Releases from 5.24 on rename ``past_key_values`` to ``cache``, and warn of the old name."""
    model = make_model(family)
    decoder, prefix = find_decoder(model), prefix_for(model, 3)
    expected = run(model, prefix)
    base = model.base_model
    forward, signature = base.forward, inspect.signature(base.forward)
    own = ({"cache", "past_key_values"} & set(signature.parameters)).pop()
    given: list[object] = []

    def renamed(**arguments: object) -> object:
        given.append(past := arguments.pop(spelling))
        return forward(**arguments, **{own: past})

    names = {own: spelling}
    parameters = [
        part.replace(name=names.get(part.name, part.name)) for part in signature.parameters.values()
    ]
    renamed.__signature__ = signature.replace(parameters=parameters)
    monkeypatch.setattr(base, "forward", renamed)
    torch.testing.assert_close(hidden_states(model, decoder, TOKENS, VALID, prefix), expected)
    assert given[0] is not None


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_without_a_prefix_see_their_own_tokens_alone(family):
    """Against the model cut in two: with prefixes in layer 0 alone, the others run as ever."""
    model = make_model(family)
    decoder = find_decoder(model)
    prefix = prefix_for(model, 3, [0])
    entering: list[torch.Tensor] = []
    layers = model.get_submodule(decoder.layers)
    handle = layers[1].register_forward_pre_hook(
        lambda _, args, kwargs: entering.append(args[0] if args else kwargs["hidden_states"]),
        with_kwargs=True,
    )
    found = hidden_states(model, decoder, TOKENS, VALID, prefix)
    handle.remove()

    def put(_: nn.Module, args: tuple[torch.Tensor, ...], kwargs: dict[str, object]) -> object:
        return (entering[0], *args[1:]), kwargs

    handle = layers[1].register_forward_pre_hook(put, with_kwargs=True)
    expected = hidden_states(model, decoder, TOKENS, VALID, None)
    handle.remove()
    torch.testing.assert_close(found[VALID], expected[VALID])
    assert not torch.allclose(found, run(model))
    assert torch.equal(run(model), run(make_model(family)))  # no hook is left behind


@pytest.mark.parametrize("family", FAMILIES)
def test_every_value_of_a_prefix_in_every_layer_matters(family):
    model = make_model(family)
    prefix = prefix_for(model, 2)
    values = prefix.values.requires_grad_()
    run(model, Prefix(values, prefix.layers))[VALID].pow(2).sum().backward()
    assert values.grad is not None
    assert (values.grad != 0).all()


def test_a_model_of_another_structure_is_refused_with_a_reason():
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.config = make_model("gpt2").config
            self.parts = nn.ModuleList([nn.Linear(2, 2) for _ in range(3)])

    with pytest.raises(BackboneError, match="no list of its 4 layers was found"):
        find_decoder(Odd())


def test_a_head_that_does_more_than_a_map_is_refused():
    model = make_model("gpt2")
    model.register_forward_hook(lambda _, __, out: setattr(out, "logits", 2 * out.logits))
    with pytest.raises(BackboneError, match="not its head's"):
        find_decoder(model)
