"""`FrozenCLIP`: frozen weights, unit-norm features, loading by name."""

import json
from dataclasses import replace

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from pfedmoap.errors import BackboneError, ShapeError
from pfedmoap.models.clip.clip import FrozenCLIP
from pfedmoap.models.loading import BackboneOptions
from tests.helpers.models import tiny_clip


def test_features_are_unit_norm_and_weights_frozen(clip):
    features = clip.image_features(torch.randn(4, 3, 32, 32))
    torch.testing.assert_close(features.norm(dim=-1), torch.ones(4))
    torch.testing.assert_close(clip.text_features(["a", "b c"]).norm(dim=-1), torch.ones(2))
    assert not any(weight.requires_grad for weight in clip.model.parameters())
    assert clip.embed_dim == 128


def test_wrong_image_size_says_what_was_expected(clip):
    with pytest.raises(ShapeError, match=r"expected \(B, 3, 32, 32\)"):
        clip.image_features(torch.randn(1, 3, 16, 16))


def test_fingerprint_follows_the_weights():
    assert tiny_clip().fingerprint == tiny_clip().fingerprint
    assert tiny_clip(seed=1).fingerprint != tiny_clip().fingerprint


def test_fingerprint_follows_whatever_decides_an_answer():
    """Prompts live in the text tower, and an activation has no weights."""
    first = tiny_clip().fingerprint
    other_text = tiny_clip()
    other_text.model.token_embedding.weight += 1
    other_tokens = tiny_clip()
    cut = other_tokens.tokenizer
    other_tokens.tokenizer = lambda texts: cut([text.upper() + " x" for text in texts])
    other_activation = tiny_clip()
    for block in other_activation.model.transformer.resblocks:
        block.mlp.gelu = torch.nn.ReLU()
    other_heads = tiny_clip()
    for block in other_heads.model.transformer.resblocks:
        block.attn.num_heads *= 2
    other_epsilon = tiny_clip()
    other_epsilon.model.ln_final.eps = 0.1
    other_mean = tiny_clip()
    other_mean.preprocessing = replace(other_mean.preprocessing, mean=(0.1, 0.2, 0.3))
    others = (other_text, other_tokens, other_activation, other_heads, other_epsilon, other_mean)
    assert len({first, *(clip.fingerprint for clip in others)}) == 7


def test_unknown_kind_of_feature_is_refused(clip):
    with pytest.raises(BackboneError, match="nonsense"):
        clip.features(torch.randn(1, 3, 32, 32), ("nonsense",))


def test_named_backbone_without_weights_lists_its_tags():
    with pytest.raises(BackboneError, match="openai"):
        BackboneOptions("ViT-B-32").load()


def test_unknown_name_and_device_are_refused():
    with pytest.raises(BackboneError, match="no architecture 'ViT-Z'"):
        BackboneOptions("ViT-Z", "openai").load()
    with pytest.raises(BackboneError, match="unknown device"):
        BackboneOptions(device="quantum").load()


def test_offline_load_says_which_command_fetches_the_weights(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path))

    def refuse(*_args, **_kwargs):
        raise OSError("no network")

    monkeypatch.setattr("open_clip.factory.download_pretrained", refuse)
    with pytest.raises(
        BackboneError, match=r"open_clip.create_model\('ViT-B-32', pretrained='openai'"
    ):
        BackboneOptions("ViT-B-32", "openai").load()


def test_local_dir_is_read_as_open_clip_lays_it_out(tmp_path):
    vision = {"image_size": 32, "patch_size": 8, "width": 32, "layers": 1, "head_width": 16}
    text = {"context_length": 20, "vocab_size": 49408, "width": 32, "heads": 4, "layers": 2}
    config = {"embed_dim": 64, "vision_cfg": vision, "text_cfg": text}
    model = open_clip.CLIP(**json.loads(json.dumps(config)))
    described = {"model_cfg": config, "preprocess_cfg": {"mean": [0.1] * 3, "std": [0.2] * 3}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(described))
    save_file(model.state_dict(), tmp_path / "open_clip_model.safetensors")
    clip = BackboneOptions(f"local-dir:{tmp_path}", device="cpu").load()
    assert clip.preprocessing.mean == (0.1, 0.1, 0.1)
    assert clip.preprocessing.size == 32
    images = torch.randn(2, 3, 32, 32)
    expected = torch.nn.functional.normalize(model.eval().encode_image(images), dim=-1)
    torch.testing.assert_close(clip.image_features(images), expected)


def test_local_dir_without_weights_is_refused(tmp_path):
    config = open_clip.get_model_config("ViT-B-32")
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    with pytest.raises(BackboneError, match="could not load"):
        BackboneOptions(f"local-dir:{tmp_path}").load()


def test_embedded_is_the_default_and_needs_no_network():
    clip = BackboneOptions(device="cpu").load()
    assert isinstance(clip, FrozenCLIP)
    assert clip.name == "embedded"
    assert clip.sharing == "shared prefix"
    with pytest.raises(BackboneError, match="runs in fp32 alone"):
        BackboneOptions(precision="bf16", device="cpu").load()


class TestWeightsDecideTheActivation:
    """open_clip only warns where an architecture's GELU is not that of the weights."""

    @pytest.fixture
    def created(self, monkeypatch):
        asked = {}

        def create_model(name, **options):
            asked.update(options, name=name)
            raise RuntimeError("stop here")

        monkeypatch.setattr("pfedmoap.models.loading.check_at_hand", lambda *_: None)
        monkeypatch.setattr("open_clip.create_model", create_model)
        return asked

    @pytest.mark.parametrize(
        ("model", "pretrained", "quick"),
        [
            ("ViT-B-16", "openai", True),
            ("ViT-B-16-quickgelu", "openai", True),
            ("RN50", "openai", True),
            ("ViT-B-16", "laion2b_s34b_b88k", False),
            ("ViT-B-16", "datacomp_xl_s13b_b90k", False),
            ("ViT-B-16", "dfn2b", True),
        ],
    )
    def test_quick_gelu_is_taken_from_the_tag(self, created, model, pretrained, quick):
        with pytest.raises(BackboneError, match="stop here"):
            BackboneOptions(model, pretrained).load()
        assert created["force_quick_gelu"] is quick

    def test_a_weights_file_leaves_it_to_the_architecture(self, created, tmp_path):
        (tmp_path / "weights.pt").touch()
        with pytest.raises(BackboneError, match="stop here"):
            BackboneOptions("ViT-B-16", str(tmp_path / "weights.pt")).load()
        assert created["force_quick_gelu"] is False

    def test_random_weights_of_a_quick_architecture_keep_its_activation(self):
        clip = BackboneOptions("RN50-quickgelu", "random", device="cpu").load()
        kinds = {type(module).__name__ for module in clip.model.modules()}
        assert "QuickGELU" in kinds


def test_no_network_fails_at_once_and_not_after_retries(monkeypatch, tmp_path):
    def unknown(*_args):
        raise OSError("Name or service not known")

    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("socket.getaddrinfo", unknown)
    monkeypatch.setattr("pfedmoap.models.fetching.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("pfedmoap.models.fetching.try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr("open_clip.create_model", pytest.fail)
    with pytest.raises(BackboneError, match=r"get_tokenizer\('ViT-B-16'\)"):
        BackboneOptions("ViT-B-16", "openai").load()


def test_a_missing_tokeniser_says_what_to_install(monkeypatch):
    monkeypatch.setattr("open_clip.create_model", lambda *_args, **_options: torch.nn.Identity())

    def get_tokenizer(name):
        raise ImportError("No module named 'transformers'")

    monkeypatch.setattr("open_clip.get_tokenizer", get_tokenizer)
    with pytest.raises(BackboneError, match="pip install transformers sentencepiece"):
        BackboneOptions("ViT-B-16-SigLIP", "random").load()
