"""A client's model of a run is folded only where tower and head answer as before."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pfedmoap.client.local_training import Training
from pfedmoap.contract.folding import Folded
from pfedmoap.contract.tasks import Setting
from pfedmoap.errors import BackboneError, MethodError
from pfedmoap.exported.of_run import PersonalModel
from pfedmoap.methods.promptfl import PromptFL
from pfedmoap.models.loading import BackboneOptions
from pfedmoap.wire.messages import ClientId
from tests.helpers.exported import local_clip

NAMES = ("cat", "dog")


def personal(folder: Path, kind: type[PromptFL] = PromptFL, **options: Any) -> PersonalModel:
    """The model of a client that never took part, on a CLIP in a folder."""
    if not folder.exists():
        local_clip(folder)
    chosen = BackboneOptions(f"local-dir:{folder}", device="cpu", **options)
    backbone = chosen.load()
    method = kind(Setting(backbone, NAMES, Training()), context_length=2)
    (download,) = method.plan(method.init(), [ClientId(3)], 1)
    return PersonalModel(backbone, chosen, method, NAMES, download, None, 1, "promptfl")


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_tower_in_half_precision_is_exported_to_compute_in_float32(precision, tmp_path):
    model = personal(tmp_path / "clip", precision=precision)
    parts = model.parts("0")
    stored = {value.dtype for value in parts.tower.values() if value.is_floating_point()}
    assert (stored == {torch.float32}) == (precision == "fp32")
    found = parts.model(torch.device("cpu")).predict(pixels := torch.randn(2, 3, 32, 32))
    assert torch.allclose(found.logits, model.predict(pixels).logits, atol=0.3)
    assert parts.record.origin.backbone == "local-dir:clip"  # and not where it lies


class FoldsWrongly(PromptFL):
    """A method whose fold says something else than its predict."""

    def fold(self, download, local):
        folded = super().fold(download, local)
        return Folded(folded.kind, folded.options, {"text": -folded.arrays["text"]})


def test_a_fold_that_says_something_else_is_found(tmp_path):
    with pytest.raises(MethodError, match=r"would answer otherwise .* `fold` of FoldsWrongly"):
        personal(tmp_path / "clip", FoldsWrongly).parts("0")


def test_a_tower_that_is_another_when_it_is_built_again_is_found(tmp_path, monkeypatch):
    model = personal(tmp_path / "clip")
    built = model.options.architecture()
    quick = replace(built, quick_gelu=True)
    monkeypatch.setattr(BackboneOptions, "architecture", lambda _: quick)
    with pytest.raises(BackboneError, match=r"local-dir:clip cannot be built again.*'image'"):
        model.parts("0")
