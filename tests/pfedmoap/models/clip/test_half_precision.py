"""Every precision on every kind of architecture, through the real loader, against float32."""

import json
import logging
from copy import deepcopy
from types import MethodType

import pytest
import torch
from open_clip import CLIP, CLIPTextCfg, CLIPVisionCfg
from open_clip.model import convert_weights_to_lp
from open_clip.transformer import LayerNorm, LayerNormFp32
from torch.nn import functional as F

from eval.contract.federation import CLASSES, SIZES, SmallFederation, noise_images, small_setting
from pfedmoap.methods.registry import Methods, method_class
from pfedmoap.models.clip.half_precision import complete, computes_in
from pfedmoap.models.loading import BackboneOptions
from pfedmoap.seeding import generator
from pfedmoap.wire.messages import ClientId
from tests.helpers.language_models import make_tokenizer
from tests.helpers.small_federation import QUICK

TEXT = {"context_length": 40, "vocab_size": 49408, "width": 32, "heads": 4, "layers": 2}
VIT = {"image_size": 32, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16}
RESNET = {"image_size": 32, "patch_size": None, "width": 8, "layers": [1, 1, 1, 1]}
TIMM = {"timm_model_pretrained": False, "timm_proj": "linear", "image_size": 160}
QUERIES = {"attentional_pool": True, "attn_pooler_heads": 4, "attn_pooler_queries": 4}
TOKENS = {"output_tokens": True}
HUGGING_FACE = {
    "hf_proj_type": "mlp",
    "hf_pooler_type": "mean_pooler",
    "hf_model_pretrained": False,
    "context_length": 40,
}
ARCHITECTURES = {  # the form of ViT-B-16, RN50, convnext_base, ViT-B-16-SigLIP, ..., made tiny
    "vit": {"vision_cfg": VIT, "text_cfg": TEXT},
    "vit-average": {"vision_cfg": {**VIT, "pool_type": "avg"}, "text_cfg": TEXT},
    "vit-scaled": {
        "vision_cfg": {**VIT, "ls_init_value": 0.1},
        "text_cfg": {**TEXT, "ls_init_value": 0.1},
    },
    "resnet": {"vision_cfg": RESNET, "text_cfg": TEXT},
    "convnext": {
        "vision_cfg": {**TIMM, "timm_model_name": "test_convnext", "timm_pool": ""},
        "text_cfg": TEXT,
    },
    "timm-vit": {
        "custom_text": True,
        "vision_cfg": {**TIMM, "timm_model_name": "test_vit", "timm_pool": "avg"},
        "text_cfg": {**TEXT, "no_causal_mask": True, "proj_bias": True, "pool_type": "last"},
    },
    "coca": {
        "custom_text": True,
        "vision_cfg": {**VIT, **QUERIES, **TOKENS},
        "text_cfg": {**TEXT, **TOKENS, "embed_cls": True},
        "multimodal_cfg": {**TEXT, "layers": 1, "attn_pooler_heads": 4},
    },
    "roberta-vit": {"vision_cfg": VIT, "text_cfg": HUGGING_FACE},
    "roberta-convnext": {
        "vision_cfg": {**TIMM, "timm_model_name": "test_convnext", "timm_pool": ""},
        "text_cfg": HUGGING_FACE,
    },
}
TOLERANCE = {"bf16": 2e-2, "fp16": 4e-3}
"""Largest distance of a unit-norm feature; bf16 rounds to 2^-9 in each of some ten operations."""


@pytest.fixture(scope="module")
def architectures(tmp_path_factory):
    """Write a folder for each, as `local-dir:` reads it; weights are random, of one seed."""
    root, hub = tmp_path_factory.mktemp("models"), tmp_path_factory.mktemp("roberta")
    transformers = pytest.importorskip("transformers")
    sizes = {"vocab_size": 32, "hidden_size": 16, "num_hidden_layers": 2, "intermediate_size": 32}
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = transformers.RobertaConfig(
        num_attention_heads=4, max_position_embeddings=64, **sizes, **special
    )
    transformers.RobertaModel(config, add_pooling_layer=False).save_pretrained(hub)
    make_tokenizer(begin=True).save_pretrained(hub)
    for name, config in ARCHITECTURES.items():
        text, folder = config["text_cfg"], root / name
        if "hf_proj_type" in text:
            make_tokenizer(begin=True).save_pretrained(folder)
            text = {**text, "hf_model_name": str(hub), "hf_tokenizer_name": str(hub)}
        written = {"model_cfg": {"embed_dim": 32, **config, "text_cfg": text}, "preprocess_cfg": {}}
        folder.mkdir(exist_ok=True)
        (folder / "open_clip_config.json").write_text(json.dumps(written))
    logging.disable(logging.WARNING)  # that weights are random
    yield root
    logging.disable(logging.NOTSET)


def load(folder, precision, device):
    return BackboneOptions(f"local-dir:{folder}", "random", precision, device.type).load()


def everything(clip, device):
    """All that the package asks of a backbone, and the gradient that training needs."""
    size = clip.preprocessing.size
    images = torch.randn(3, 3, size, size, generator=generator(0, "images"))
    found = clip.features(images, clip.feature_kinds)
    found["differentiable"] = clip.differentiable_image_features(images)
    found["texts"] = clip.text_features(["a cat", "the red sky"])
    for shared in (True, False):
        encode = clip.prompt_encoder(["cat", "a small dog"], 4, shared_prefix=shared)
        context = 0.02 * torch.randn(2, 4, clip.text_width, generator=generator(0, "contexts"))
        context = context.to(device).requires_grad_()
        features = encode(context)
        features.square().mul(torch.arange(32.0, device=device)).sum().backward()
        found |= {f"prompts {shared}": features, f"gradient {shared}": context.grad}
    if "tokens" in found:
        see = clip.prompted_vision()
        prompts = torch.randn(3, 2, see.width, generator=generator(0, "prompts")).to(device)
        found["prompted"] = see(found["tokens"], prompts)
    return {kind: value.detach().cpu() for kind, value in found.items()}


@pytest.mark.filterwarnings("ignore:.*TF32")  # some versions of torch advise another way
@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_images_texts_and_prompts_are_those_of_float32(
    name, precision, architectures, device, monkeypatch
):
    if device.type == "cuda":  # whose convolutions round float32 to ten bits unless told not to
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    expected = everything(load(architectures / name, "fp32", device), device)
    clip = load(architectures / name, precision, device)
    found = everything(clip, device)

    assert computes_in(clip.model.visual) == {"bf16": torch.bfloat16, "fp16": torch.half}[precision]
    assert found.keys() == expected.keys()
    for kind, value in found.items():
        off = (value - expected[kind]).norm(dim=-1) / expected[kind].norm(dim=-1).clamp(min=1e-6)
        slack = 3 if kind.startswith("gradient") else 1
        assert value.dtype == torch.float32, kind
        assert off.max() < slack * TOLERANCE[precision], kind


@pytest.mark.parametrize("pool", ["tok", "avg"])
def test_deep_towers_keep_their_features_within_one_in_a_hundred(pool, device):
    """Sums of twelve layers in half precision do not; see `complete`."""
    shape = {"image_size": 32, "patch_size": 8, "width": 128, "layers": 12, "head_width": 32}
    vision = CLIPVisionCfg(**shape, pool_type=pool)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        texts = CLIPTextCfg(context_length=8, vocab_size=16, width=32, heads=2, layers=1)
        exact = CLIP(64, vision, texts).visual.eval().to(device)
    images = torch.randn(8, 3, 32, 32, generator=generator(0, "images")).to(device)
    off = {}
    for kept in (False, True):
        half = torch.nn.Module()
        half.visual = deepcopy(exact)
        convert_weights_to_lp(half.visual, torch.bfloat16)
        for module in half.modules():
            if isinstance(module, LayerNorm):
                module.forward = MethodType(LayerNormFp32.forward, module)
        if kept:
            complete(half, "bf16")
        with torch.no_grad():
            pair = [tower(images.to(computes_in(tower))) for tower in (exact, half.visual)]
        one, other = (F.normalize(features.float()) for features in pair)
        off[kept] = float((one - other).norm(dim=1).max())
    assert off[True] < 1e-2
    assert off[True] < 0.9 * off[False]


def test_all_methods_train_and_predict_on_half_towers(architectures):
    """On a ViT in bf16: whichever part of it a method runs by itself."""
    clip = load(architectures / "vit", "bf16", torch.device("cpu"))
    setting = small_setting(clip, noise_images(clip, ClientId(99), 4))
    data = {client: noise_images(clip, client, 2) for client in list(SIZES)[:2]}
    forms = [(name, {}) for name in Methods()]
    forms = [(name, {"gate_width": 32} if name == "pfedmoap" else {}) for name, _ in forms]
    forms += [("pfpt", {"modality": "text"}), ("fedsp", {"protects": "both", "prefixed": "both"})]

    for name, options in forms:
        method = method_class(name)(setting, **QUICK.get(name, {}), **options)
        federation = SmallFederation(method, data)
        state, local_states, _ = federation.rounds(2 if name == "pfedmoap" else 1)
        for prediction in federation.predict(state, local_states).values():
            assert prediction.logits.shape == (2, len(CLASSES)), name
            assert prediction.logits.isfinite().all(), name
