"""The backbone's checks pass where all is well, and each fails where its subject is spoilt."""

import json
from dataclasses import dataclass, field

import pytest
import torch

from eval.doctor import backbone
from eval.doctor.backbone import look_at_backbone, look_at_encoders, look_at_pictures, photographs
from pfedmoap.models.clip.clip import FrozenCLIP
from pfedmoap.models.loading import BackboneOptions


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(backbone, "SPEED_SECONDS", 0.0)
    monkeypatch.setattr(backbone, "SPEED_BATCH", 2)


def test_the_embedded_model_is_sound():
    found = {finding.name: finding for finding in look_at_backbone(BackboneOptions(device="cpu"))}
    assert {finding.status for finding in found.values()} == {"ok"}
    assert [*found] == ["weights", "prompts", "widths", "precision", "speed", "zero-shot"]
    assert found["prompts"].found.startswith("shared prefix; differs from the plain encoding by")
    assert "128 dimensions, pFedMoAP's gate 64" in found["widths"].found
    assert "images a second" in found["speed"].found
    assert f"expected {backbone.EXPECTED_RIGHT}" in found["zero-shot"].found


def test_weights_that_are_not_there_are_wrong_with_what_to_do():
    options = BackboneOptions("ViT-B-16", "no-such-tag", device="cpu")
    (found,) = look_at_backbone(options)
    assert (found.name, found.status) == ("weights", "wrong")
    assert "no-such-tag" in found.found


def test_damaged_weights_are_found_by_known_pictures():
    clip = FrozenCLIP.embedded()
    with torch.no_grad():
        for weight in clip.model.visual.parameters():
            weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
    found = look_at_pictures(clip, trained=True)
    assert found.status == "wrong"
    assert found.remedy


@dataclass
class Spoilt:
    """A model whose shared prefix is wrong."""

    sharing: str = "shared prefix"
    text_width: int = 8
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def prompt_encoder(self, names, length, *, shared_prefix):
        return lambda contexts: torch.ones(2, 3, 8) * (1.5 if shared_prefix else 1.0)


def test_a_wrong_shared_prefix_is_found_and_a_plain_encoder_noted():
    assert look_at_encoders(Spoilt(), "fp32").status == "wrong"
    found = look_at_encoders(Spoilt(sharing="plain: not causal"), "fp32")
    assert (found.status, found.found) == (
        "note",
        "plain: not causal; training is slower, not worse",
    )


@pytest.mark.filterwarnings("ignore::UserWarning")  # open_clip on a model without weights
def test_random_weights_are_noted_and_half_precision_is_compared(tmp_path):
    vision = {"image_size": 32, "patch_size": 8, "width": 32, "layers": 1, "head_width": 16}
    text = {"context_length": 20, "vocab_size": 49408, "width": 32, "heads": 4, "layers": 2}
    config = {"embed_dim": 64, "vision_cfg": vision, "text_cfg": text}
    (tmp_path / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": config, "preprocess_cfg": {}})
    )
    options = BackboneOptions(f"local-dir:{tmp_path}", "random", "bf16", device="cpu")
    found = {finding.name: finding for finding in look_at_backbone(options)}
    assert found["precision"].found.startswith("bf16; 1 - cosine to float32 is at most")
    assert found["precision"].status == "ok"
    assert found["zero-shot"].status in ("ok", "note")
    assert "two photographs" in found["zero-shot"].found


def test_the_photographs_are_a_temple_and_a_flower():
    assert [image.size for image in photographs()] == [(640, 427), (640, 427)]
