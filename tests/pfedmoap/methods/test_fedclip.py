"""FedCLIP: the adapter as the paper writes it, and what travels."""

import math

import pytest
import torch
from torch.nn import functional as F

from pfedmoap.errors import ConfigError
from pfedmoap.methods.fedclip import FedCLIP, adapted
from pfedmoap.prompts.tuning import template_features
from pfedmoap.wire.messages import ClientId

ME = ClientId(4)


def test_the_adapter_equals_torchs_own_layers(setting, data):
    method = FedCLIP(setting)
    width = setting.backbone.embed_dim
    layers = torch.nn.Sequential(
        torch.nn.Linear(width, width),
        torch.nn.Tanh(),
        torch.nn.Linear(width, width),
        torch.nn.Softmax(dim=-1),
    )
    state = {name: 5 * value for name, value in method.init().items()}
    with torch.no_grad():
        layers[0].weight.copy_(state["hidden_weight"])
        layers[0].bias.copy_(state["hidden_bias"])
        layers[2].weight.copy_(state["weight"])
        layers[2].bias.copy_(state["bias"])
        image = data[ME].view()["image"]
        truth = F.normalize(layers(image) * image, dim=-1)
        found = adapted({name: value[None] for name, value in state.items()}, image[None])[0]
        assert torch.allclose(found, truth, atol=1e-5)
        logits = setting.backbone.logit_scale * truth @ template_features(setting).T
    assert torch.allclose(method.classify(state, {"image": image}).logits, logits, atol=1e-3)


def test_an_even_attention_is_zero_shot(setting, data):
    """Weights of zero weigh all coordinates alike, and the norm is made one again."""
    method = FedCLIP(setting)
    even = {name: torch.zeros_like(value) for name, value in method.init().items()}
    image = data[ME].view()["image"]
    truth = setting.backbone.logit_scale * image @ template_features(setting).T
    assert torch.allclose(method.classify(even, {"image": image}).logits, truth, atol=1e-4)


def test_all_of_the_adapter_is_trained_and_averaged(small, setting, data):
    method = FedCLIP(setting)
    start = method.init()
    state, local_states, results = small(method).rounds(1)
    sizes = [len(data[result.update.client]) for result in results]
    assert not any(local_states.values())
    for name, value in state.items():
        assert float(start[name].abs().max()) <= 1 / math.sqrt(setting.backbone.embed_dim)
        assert not torch.equal(value, start[name])
        uploads = [result.update.arrays[name] for result in results]
        mean = sum(size * one for size, one in zip(sizes, uploads, strict=True)) / sum(sizes)
        assert torch.allclose(value, mean, atol=1e-6)


def test_there_is_no_option_of_a_prompt(setting):
    for option in ("context_length", "context_init", "class_position", "class_specific"):
        with pytest.raises(TypeError, match=option):
            FedCLIP(setting, **{option: 4})
    with pytest.raises(ConfigError, match="class name"):
        FedCLIP(setting, template="a photo")
