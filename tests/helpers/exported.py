"""Folded models of a small federation, a folder with one of them, and a CLIP in a folder."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from eval.contract.federation import SmallFederation, noise_images, small_setting
from pfedmoap.contract.folding import Folded, fold
from pfedmoap.exported.folder import Parts, write_model
from pfedmoap.exported.model import ExportedModel
from pfedmoap.exported.record import ModelRecord, Origin
from pfedmoap.methods.pfedmoap.attention_gate import AttentionGate
from pfedmoap.methods.pfedmoap.folded_gate import gate_options
from pfedmoap.methods.registry import method_class
from pfedmoap.models.clip.architecture import Architecture
from pfedmoap.models.clip.clip import FrozenCLIP
from pfedmoap.models.clip.tiny import tiny_clip
from pfedmoap.wire.messages import Arrays, ClientId, Download

TINY = {"image_size": 32, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16}
"""The image tower of `tiny_clip`, as open_clip's ``vision_cfg``."""

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "one prompt": ("promptfl", {}),
    "attention gate": ("pfedmoap", {}),
    "cosine gate": ("pfedmoap", {"score": "cosine", "pooling": "average", "renormalise": True}),
    "linear gate": ("pfedmoap", {"gate": "linear"}),
    "mean gate": ("pfedmoap", {"gate": "mean"}),
    "averaged gate": ("pfedmoap", {"gate_sharing": "averaged"}),
    "evidence": ("evidence_mixture", {}),
    "adapter": ("fedclip", {}),
    "transport": ("fedotp", {"iterations": 10}),
    "texts": ("pfpt", {"modality": "text", "prompts": 12, "chosen": 3}),
    "all texts": ("fedavg_pt", {"modality": "text", "prompts": 3}),
    "tokens": ("pfpt", {"prompts": 12, "chosen": 3}),
    "all tokens": ("fedavg_pt", {"prompts": 3}),
    "trained head": ("pfpt", {"head": "trained", "projection": True}),
}
"""A method and its options for every kind of head and what it can be made of."""


@cache
def _backbone() -> FrozenCLIP:
    return tiny_clip()


@cache
def trained(name: str) -> tuple[SmallFederation, Download, Arrays | None]:
    """A small federation after two rounds, and what client 4 of it classifies with."""
    method, options = KINDS[name]
    backbone = _backbone()
    setting = small_setting(backbone, noise_images(backbone, ClientId(99), 4))
    data = {ClientId(i): noise_images(backbone, ClientId(i), size) for i, size in SIZES.items()}
    kind: Any = method_class(method)
    world = SmallFederation(kind(setting, **options), data)
    state, local_states, _ = world.rounds(2)
    download = world.method.plan(state, [ClientId(4)], 3)[0]
    return world, download, local_states.get(ClientId(4))


SIZES = {0: 5, 1: 3, 4: 8}
"""Images of each client."""


def parts_of(backbone: FrozenCLIP, folded: Folded, classes: tuple[str, ...]) -> Parts:
    """An exported model on the tiny backbone."""
    record = ModelRecord(
        classes,
        backbone.preprocessing,
        Architecture(128, False, TINY),
        folded.kind,
        folded.options,
        folded.experts,
        Origin("0", "a method", 4, 2, "tiny", "0"),
    )
    return Parts(record, backbone.model.visual.state_dict(), folded.arrays)


def exported(folder: Path, name: str = "attention gate") -> Path:
    """Write a folder with a model of one of `KINDS`."""
    world, download, local = trained(name)
    setting = world.method.setting
    folded = fold(world.method, download, local)
    write_model(folder, parts_of(setting.backbone, folded, setting.class_names), private=False)
    return folder


def random_mixture(backbone: FrozenCLIP, classes: int = 100, experts: int = 10) -> ExportedModel:
    """A model with an attention gate over random class features, at a backbone's real size."""
    stream = torch.Generator().manual_seed(0)
    shape = (experts, classes, backbone.embed_dim)
    text = F.normalize(torch.randn(shape, generator=stream), dim=-1)
    gate = AttentionGate(width=128, heads=8)
    weights = {f"gate.{name}": value for name, value in gate.state_dict().items()}
    options = {"scale": 100.0, "own_weight": 0.5, **gate_options(gate)}  # that of trained ones
    owners = tuple(ClientId(i) for i in range(experts - 1))
    folded = Folded("mixture", options, {"text": text, **weights}, owners)
    names = [f"class {i}" for i in range(classes)]
    visual = backbone.model.visual
    return ExportedModel(visual, backbone.preprocessing, folded, names, backbone.name)


LOCAL = {
    "model_cfg": {
        "embed_dim": 32,
        "vision_cfg": {
            "image_size": 32,
            "patch_size": 16,
            "width": 32,
            "layers": 1,
            "head_width": 16,
        },
        "text_cfg": {
            "context_length": 24,
            "vocab_size": 49408,
            "width": 32,
            "heads": 2,
            "layers": 1,
        },
    },
    "preprocess_cfg": {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4]},
}


def local_clip(folder: Path) -> None:
    """A CLIP in open_clip's own form of a folder, with random weights."""
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps(LOCAL))
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = open_clip.CLIP(**LOCAL["model_cfg"])
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
