"""The shared-prefix encoder against the slow truth: the library's own full-length forward pass."""

import open_clip
import pytest
import torch

from pfedmoap.errors import BackboneError, ShapeError
from pfedmoap.models.clip.clip import FrozenCLIP
from pfedmoap.models.clip.plain_text import PlainPromptEncoder
from pfedmoap.models.clip.preprocessing import Preprocessing
from pfedmoap.models.clip.shared_prefix import SharedPrefixEncoder, padding_pays
from tests.helpers.models import CLASS_NAMES, rounding, tiny_clip


def values_and_gradient(encode, contexts, weights):
    contexts = contexts.clone().requires_grad_()
    features = encode(contexts)
    (gradient,) = torch.autograd.grad((features * weights).sum(), contexts)
    return features.detach(), gradient


def assert_same(first, second):
    near = rounding(second[0].device)
    torch.testing.assert_close(first[0], second[0], rtol=0, atol=near)
    scale = float(second[1].abs().max())
    torch.testing.assert_close(first[1], second[1], rtol=0, atol=near * scale)


@pytest.mark.parametrize("vision", ["vit", "resnet"])
@pytest.mark.parametrize("length", [1, 4, 16])
@pytest.mark.parametrize("names", [CLASS_NAMES, ("cat",), tuple(f"thing {i}" for i in range(60))])
def test_shared_prefix_equals_full_length_encoding(vision, length, names, device):
    clip = tiny_clip(vision, device=device)
    contexts = torch.randn(3, length, clip.text_width).to(device)
    weights = torch.randn(3, len(names), 128).to(device)
    shared = clip.prompt_encoder(names, length)
    plain = clip.prompt_encoder(names, length, shared_prefix=False)
    assert isinstance(shared, SharedPrefixEncoder)
    assert isinstance(plain, PlainPromptEncoder)
    assert_same(
        values_and_gradient(shared, contexts, weights),
        values_and_gradient(plain, contexts, weights),
    )


@pytest.mark.parametrize("memory_bytes", [None, 20_000])
def test_one_padded_block_equals_a_block_for_each_length(memory_bytes, device):
    clip = tiny_clip(device=device)
    contexts = torch.randn(3, 4, 32).to(device)
    weights = torch.randn(3, len(CLASS_NAMES), 128).to(device)
    one, each = (
        clip.prompt_encoder(CLASS_NAMES, 4, one_block=choice, memory_bytes=memory_bytes)
        for choice in (True, False)
    )
    assert_same(
        values_and_gradient(one, contexts, weights), values_and_gradient(each, contexts, weights)
    )


def test_padding_pays_where_launches_decide_and_little_is_padded():
    cuda, cpu = torch.device("cuda"), torch.device("cpu")
    assert not padding_pays(cpu, 100, 101)
    assert padding_pays(cuda, 500, 700)
    assert not padding_pays(cuda, 500, 900)
    assert padding_pays(cuda, 50_000, 55_000)
    assert not padding_pays(cuda, 50_000, 60_000)


@pytest.mark.parametrize("shared_prefix", [True, False])
def test_chunks_under_a_memory_bound_change_nothing(shared_prefix, device):
    clip = tiny_clip(device=device)
    contexts = torch.randn(2, 4, 32).to(device)
    weights = torch.randn(2, len(CLASS_NAMES), 128).to(device)
    whole = clip.prompt_encoder(CLASS_NAMES, 4, shared_prefix=shared_prefix)
    chunked = clip.prompt_encoder(CLASS_NAMES, 4, shared_prefix=shared_prefix, memory_bytes=1)
    assert_same(
        values_and_gradient(chunked, contexts, weights),
        values_and_gradient(whole, contexts, weights),
    )
    with torch.no_grad():
        near = rounding(device)
        torch.testing.assert_close(chunked(contexts), whole(contexts), rtol=0, atol=near)


def test_context_of_words_reproduces_the_sentence(clip):
    context = clip.embed_words("a photo of a")
    assert context.shape == (4, 32)
    features = clip.prompt_encoder(CLASS_NAMES, 4)(context[None])[0]
    sentences = clip.text_features([f"a photo of a {name}." for name in CLASS_NAMES])
    torch.testing.assert_close(features, sentences, rtol=0, atol=1e-5)


@pytest.mark.parametrize("position", ["front", "middle"])
def test_other_class_positions_use_the_plain_encoder_and_read_right(clip, position):
    encode = clip.prompt_encoder(("cat",), 4, class_position=position)
    assert isinstance(encode, PlainPromptEncoder)
    features = encode(clip.embed_words("one two three four")[None])[0]
    sentence = {"front": "cat one two three four.", "middle": "one two cat three four."}[position]
    torch.testing.assert_close(features, clip.text_features([sentence]), rtol=0, atol=1e-5)


def test_class_specific_contexts_use_the_plain_encoder(clip):
    plain = clip.prompt_encoder(CLASS_NAMES, 4, shared_prefix=False)
    common = torch.randn(2, 4, 32)
    specific = common.unsqueeze(1).expand(-1, len(CLASS_NAMES), -1, -1)
    torch.testing.assert_close(plain(specific), plain(common))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ({"no_causal_mask": True}, "not causal"),
        ({"pool_type": "last"}, "pooled by 'last'"),
        ({"embed_cls": True}, "class token"),
    ],
)
def test_structure_decides_where_the_prefix_cannot_be_shared(text, reason):
    vision = {"image_size": 32, "patch_size": 8, "width": 32, "layers": 1, "head_width": 16}
    options = {"context_length": 20, "width": 32, "heads": 4, "layers": 2} | text
    model = open_clip.model.CustomTextCLIP(64, vision, options)
    clip = FrozenCLIP(
        model,
        open_clip.SimpleTokenizer(context_length=20),
        Preprocessing(32, (0.5,) * 3, (0.3,) * 3),
    )
    assert reason in clip.sharing
    encode = clip.prompt_encoder(("cat", "dog"), 3)
    words = clip.embed_words("one two three")
    expected = clip.text_features(["one two three cat.", "one two three dog."])
    torch.testing.assert_close(encode(words[None])[0], expected, rtol=0, atol=1e-5)


def test_causal_custom_text_tower_shares_the_prefix():
    vision = {"image_size": 32, "patch_size": 8, "width": 32, "layers": 1, "head_width": 16}
    options = {"context_length": 20, "width": 32, "heads": 4, "layers": 2, "proj_bias": True}
    model = open_clip.model.CustomTextCLIP(64, vision, options)
    clip = FrozenCLIP(
        model,
        open_clip.SimpleTokenizer(context_length=20),
        Preprocessing(32, (0.5,) * 3, (0.3,) * 3),
    )
    assert clip.sharing == "shared prefix"
    words = clip.embed_words("one two three")
    expected = clip.text_features(["one two three cat."])
    features = clip.prompt_encoder(("cat",), 3)(words[None])[0]
    torch.testing.assert_close(features, expected, rtol=0, atol=1e-5)


def test_bfloat16_tower_keeps_float32_prompts_and_features():
    model = tiny_clip().model.to(torch.bfloat16)
    clip = FrozenCLIP(
        model,
        open_clip.SimpleTokenizer(context_length=40),
        Preprocessing(32, (0.5,) * 3, (0.3,) * 3),
    )
    contexts = torch.randn(2, 4, 32, requires_grad=True)
    features = clip.prompt_encoder(CLASS_NAMES, 4)(contexts)
    features.sum().backward()
    assert features.dtype == torch.float32
    assert contexts.grad is not None
    assert contexts.grad.dtype == torch.float32
    assert clip.image_features(torch.randn(2, 3, 32, 32)).dtype == torch.float32


def test_too_long_class_name_is_named(clip):
    with pytest.raises(BackboneError, match="one two three"):
        clip.prompt_encoder(("cat", "one two three " * 8), 16)


def test_wrong_context_shape_says_what_was_expected(clip):
    with pytest.raises(ShapeError, match=r"\(2, 3, 32\), expected \(E, 4, 32\)"):
        clip.prompt_encoder(CLASS_NAMES, 4)(torch.zeros(2, 3, 32))
    with pytest.raises(ShapeError, match="expected"):
        clip.prompt_encoder(CLASS_NAMES, 4, shared_prefix=False)(torch.zeros(2, 3, 32))
