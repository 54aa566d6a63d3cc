"""The bound on activations: what the backward pass keeps of one chunk stays below it."""

import copy

import pytest
import torch
from open_clip.model import convert_weights_to_lp

from pfedmoap.models.clip.clip import FrozenCLIP
from pfedmoap.models.clip.shared_prefix import SharedPrefixEncoder

CLASSES, EXPERTS, LENGTH = 60, 2, 4


def kept_bytes(encode, contexts) -> int:
    """Bytes that autograd saves for the backward pass, each tensor's storage counted once."""
    storages = {}

    def pack(tensor):
        if not isinstance(tensor, torch.nn.Parameter):
            storage = tensor.untyped_storage()
            storages[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        encode(contexts.clone().requires_grad_())
    return sum(size for size, _ in storages.values())


@pytest.fixture
def names():
    return [f"thing number {i}" for i in range(CLASSES)]


def test_no_chunk_holds_more_tokens_than_the_bound_allows(clip, names, monkeypatch) -> None:
    sizes = []
    whole = SharedPrefixEncoder.encode_suffix

    def counted(self, suffix, cache, ends=None):
        sizes.append(suffix[..., 0].numel() * cache[0][0].shape[0])
        return whole(self, suffix, cache, ends)

    monkeypatch.setattr(SharedPrefixEncoder, "encode_suffix", counted)
    token_bytes = 16 * 3 * 32 * 4  # 16 activations a layer, 3 layers, width 32, float32
    allowed = 100
    encode = clip.prompt_encoder(names, LENGTH, memory_bytes=allowed * token_bytes)
    contexts = torch.randn(EXPERTS, LENGTH, 32).requires_grad_()
    encode(contexts).sum().backward()
    assert max(sizes) <= allowed
    assert len(sizes) > CLASSES * EXPERTS // allowed


def test_chunks_keep_a_fraction_of_what_the_whole_keeps(clip, names) -> None:
    contexts = torch.randn(EXPERTS, LENGTH, 32)
    whole = kept_bytes(clip.prompt_encoder(names, LENGTH), contexts)
    chunked = kept_bytes(clip.prompt_encoder(names, LENGTH, memory_bytes=200_000), contexts)
    assert chunked < whole / 4


@pytest.mark.parametrize("shared_prefix", [True, False])
def test_the_estimate_is_about_what_a_token_keeps(clip, names, shared_prefix) -> None:
    contexts = torch.randn(EXPERTS, LENGTH, 32)
    encode = clip.prompt_encoder(names, LENGTH, shared_prefix=shared_prefix)
    tokens = EXPERTS * CLASSES * (40 if not shared_prefix else len(names[10].split()) + 3)
    estimated = 16 * 3 * 32 * 4 * tokens
    assert kept_bytes(encode, contexts) < 2 * estimated


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_towers_train_a_full_precision_prompt(clip, dtype) -> None:
    model = copy.deepcopy(clip.model)
    convert_weights_to_lp(model, dtype)  # what open_clip's precision bf16 and fp16 do
    exact, clip = clip, FrozenCLIP(model, clip.tokenizer, clip.preprocessing)
    context = torch.nn.Parameter(torch.randn(1, 4, clip.text_width))
    names = ["cat", "golden retriever"]
    shared = clip.prompt_encoder(names, 4)(context)
    assert shared.dtype == torch.float32
    with torch.no_grad():
        whole = exact.prompt_encoder(names, 4)(context)
        plain = clip.prompt_encoder(names, 4, shared_prefix=False)(context)
    assert (shared - whole).abs().max() < 0.02
    assert (plain - whole).abs().max() < 0.02
    (shared[0, 0] * torch.linspace(-1, 1, shared.shape[-1])).sum().backward()
    assert context.grad is not None
    assert context.grad.dtype == torch.float32
    assert torch.isfinite(context.grad).all()
    assert context.grad.abs().sum() > 0
