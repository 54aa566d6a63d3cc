"""FedTPG: the network that writes the prompt, against torch's own attention."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from pfedmoap.errors import ConfigError
from pfedmoap.methods.fedtpg import FedTPG
from pfedmoap.wire.messages import ClientId

ME = ClientId(4)


def test_the_written_prompt_equals_torchs_own_attention(setting):
    method = FedTPG(setting, context_length=3, width=8)
    state = {name: 3 * value for name, value in method.init().items()}
    names = setting.backbone.text_features(list(setting.class_names))
    attended = F.scaled_dot_product_attention(
        state["queries"][None], (names @ state["keys"])[None], (names @ state["values"])[None]
    )[0]
    hidden = F.relu(F.linear(attended, state["hidden_weight"].T, state["hidden_bias"]))
    truth = F.linear(hidden, state["weight"].T, state["bias"])
    found = method.compose({name: value[None] for name, value in state.items()})
    assert found.shape == (1, 3, 32)
    assert torch.allclose(found[0], truth, atol=1e-5)


def test_the_prompt_depends_on_the_names_of_the_classes(setting):
    other = replace(setting, class_names=("zebra", "oak", "lorry"))
    one, two = FedTPG(setting, width=8), FedTPG(other, width=8)
    weights = {name: value[None] for name, value in one.init().items()}
    assert all(torch.equal(one.init()[name], two.init()[name]) for name in weights)
    assert not torch.allclose(one.compose(weights), two.compose(weights), atol=1e-6)


def test_the_whole_network_is_trained_and_nothing_stays(small, setting):
    method = FedTPG(setting, width=8)
    start = method.init()
    state, local_states, results = small(method).rounds(2)
    assert all(set(result.update.arrays) == set(start) for result in results)
    assert not any(local_states.values())
    assert all(not torch.equal(state[name], start[name]) for name in start)


def test_nonsense_options_are_refused(setting):
    with pytest.raises(ConfigError, match="width"):
        FedTPG(setting, width=0)
    with pytest.raises(TypeError, match="context_init"):
        FedTPG(setting, context_init="a photo of a")
