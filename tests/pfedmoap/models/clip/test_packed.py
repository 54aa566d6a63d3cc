"""Products with packed frozen weights: those of torch, with all gradients that methods ask for."""

import pytest
import torch
from open_clip import CLIP
from torch.func import grad, vjp, vmap
from torch.nn import functional as F

from pfedmoap.models.clip import packed
from pfedmoap.models.clip.image_tokens import PromptedVision, find_tokens
from pfedmoap.models.clip.packed import FrozenLinear, PackedBlock, packed_blocks, packs
from pfedmoap.models.clip.shared_prefix import SharedPrefixEncoder, shareable_tower
from pfedmoap.models.clip.tiny import tiny_clip
from pfedmoap.models.clip.tokens import prompt_tokens
from pfedmoap.models.memory import ActivationBound
from tests.helpers.models import CLASS_NAMES

WIDTH = 256
NEEDED = pytest.mark.skipif(not packs(torch.zeros(WIDTH, WIDTH)), reason="needs AVX-512 and oneDNN")


def weights(out=WIDTH, width=2 * WIDTH, dtype=torch.float32):
    return (torch.randn(out, width) / width**0.5).to(dtype), torch.randn(out).to(dtype)


@NEEDED
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1,), (3, 5), (2, 3, 40)])
def test_values_and_gradients_are_those_of_torch(shape, dtype):
    weight, bias = weights(dtype=dtype)
    if not packs(weight):
        pytest.skip("needs AVX-512 BF16")
    x = torch.randn(*shape, weight.shape[1]).to(dtype).requires_grad_()
    expected = F.linear(x, weight, bias)
    found = FrozenLinear(weight, bias)(x)
    assert type(found.grad_fn).__name__ == "_ProductBackward", "and they are packed"
    given = torch.randn_like(expected)
    rounding = (
        {"rtol": 1e-4, "atol": 1e-4} if dtype == torch.float32 else {"rtol": 2e-2, "atol": 2e-2}
    )
    torch.testing.assert_close(found, expected, **rounding)
    (found_gradient,) = torch.autograd.grad(found, x, given)
    (gradient,) = torch.autograd.grad(expected, x, given)
    torch.testing.assert_close(found_gradient, gradient, **rounding)


@NEEDED
def test_batched_gradients_are_one_product():
    """What per-example gradients ask for: many vector-Jacobian products at once, of both kinds."""
    weight, _ = weights()
    layer = FrozenLinear(weight, None)
    x = torch.randn(7, weight.shape[1], requires_grad=True)
    given = torch.randn(4, 7, WIDTH)
    expected = given @ weight
    (found,) = torch.autograd.grad(layer(x), x, given, is_grads_batched=True)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    _, back = vjp(layer, x.detach())
    torch.testing.assert_close(vmap(back)(given)[0], expected, rtol=1e-4, atol=1e-4)
    inner = torch.randn(5, weight.shape[1], 3)
    mapped = vmap(layer, in_dims=2)(inner)
    torch.testing.assert_close(mapped, F.linear(inner.movedim(2, 0), weight), rtol=1e-4, atol=1e-4)


@NEEDED
def test_gradients_of_gradients_are_those_of_torch():
    weight, bias = weights()
    x = torch.randn(3, weight.shape[1], requires_grad=True)
    found = []
    for linear in (FrozenLinear(weight, bias), lambda x: F.linear(x, weight, bias)):
        (first,) = torch.autograd.grad(linear(x).square().sum(), x, create_graph=True)
        found.append(torch.autograd.grad(first.square().sum(), x)[0])
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-3)


@NEEDED
def test_weights_that_are_loaded_anew_are_packed_anew():
    weight, bias = weights()
    layer = FrozenLinear(weight, bias)
    x = torch.randn(6, weight.shape[1])
    layer(x)
    weight.mul_(2)
    torch.testing.assert_close(layer(x), F.linear(x, weight, bias), rtol=1e-4, atol=1e-4)


@NEEDED
def test_an_encoder_of_packed_blocks_gives_what_plain_blocks_give(monkeypatch):
    tokens = prompt_tokens(tiny_clip().tokenizer, CLASS_NAMES, 4)
    config = {"context_length": 40, "vocab_size": 49408, "width": WIDTH, "heads": 4, "layers": 2}
    vision = {"image_size": 32, "patch_size": 16, "width": 32, "layers": 1, "head_width": 16}
    model = CLIP(64, vision, config).eval().requires_grad_(False)
    tower = shareable_tower(model)
    contexts = 0.02 * torch.randn(3, 4, WIDTH)
    found = []
    for smallest in (packed.SMALLEST, 10**6):
        monkeypatch.setattr(packed, "SMALLEST", smallest)
        blocks = packed_blocks(tower.blocks)
        assert all(isinstance(block, PackedBlock) == (smallest < 10**6) for block in blocks)
        encoder = SharedPrefixEncoder(
            shareable_tower(model), tokens, ActivationBound.of(torch.device("cpu"), None)
        )
        leaf = contexts.clone().requires_grad_()
        features = encoder(leaf)
        features.square().sum(dim=(0, 1))[::3].sum().backward()
        found.append((features.detach(), leaf.grad))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@NEEDED
def test_prompted_images_are_those_of_plain_blocks(monkeypatch):
    vision = {"image_size": 32, "patch_size": 16, "width": WIDTH, "layers": 2, "head_width": 64}
    text = {"context_length": 8, "vocab_size": 64, "width": 32, "heads": 2, "layers": 1}
    model = CLIP(64, vision, text).eval().requires_grad_(False)
    tokens, prompts = torch.randn(2, 3, 5, WIDTH), torch.randn(2, 3, 2, WIDTH)
    found = []
    for smallest in (packed.SMALLEST, 10**6):
        monkeypatch.setattr(packed, "SMALLEST", smallest)
        see = PromptedVision(find_tokens(model.visual))
        each = vmap(lambda one, prompt, see=see: grad(lambda p: see(one, p)[..., 0].sum())(prompt))
        found.append((see(tokens, prompts), each(tokens, prompts)))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_what_trains_or_is_small_is_not_packed():
    weight, _ = weights()
    assert not packs(weight.clone().requires_grad_())
    assert not packs(weight[: WIDTH - 1])
    assert not packs(weight.double())
    assert not packs(weight.to("meta"))
    clip = tiny_clip()
    assert clip.text_tower.run_blocks is clip.text_tower.blocks
    x = torch.randn(2, 3, requires_grad=True)
    small, bias = torch.randn(4, 3), torch.randn(4)
    assert torch.equal(FrozenLinear(small, bias)(x), F.linear(x, small, bias))
