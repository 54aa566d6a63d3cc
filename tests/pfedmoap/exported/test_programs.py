"""ONNX and torch.export: the same probabilities for batches of any size.

What else is in the files is looked at where a model is exported from a run, in
`tests/eval/test_exporting.py`.
"""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pfedmoap.contract.folding import fold
from pfedmoap.errors import ConfigError, MethodError
from pfedmoap.exported import programs
from pfedmoap.exported.folder import ONNX, ONNX_DATA, PROGRAM
from pfedmoap.exported.model import ExportedModel
from pfedmoap.models.loading import BackboneOptions
from tests.helpers.exported import KINDS, random_mixture, trained

onnxruntime = pytest.importorskip("onnxruntime")
needs_torch = pytest.mark.skipif(
    programs.torch_release() < programs.OLDEST_TORCH, reason="needs a newer torch"
)


def model_of(name: str) -> ExportedModel:
    world, download, local = trained(name)
    setting = world.method.setting
    return ExportedModel(
        setting.backbone.model.visual,
        setting.backbone.preprocessing,
        fold(world.method, download, local),
        setting.class_names,
        "tiny",
    )


def in_onnxruntime(folder: Path, pixels: torch.Tensor) -> np.ndarray:
    session = onnxruntime.InferenceSession(folder / ONNX, providers=["CPUExecutionProvider"])
    return session.run(["probabilities"], {"pixels": pixels.numpy()})[0]


def check_files(model: ExportedModel, folder: Path, largest_bytes: int) -> None:
    """Write both files, and compare them on batches of another size than they were made with."""
    program = programs.trace(model)
    programs.write_program(program, model, folder)
    programs.write_onnx(program, model, folder, largest_bytes)
    side = model.preprocessing.size
    run = torch.export.load(folder / PROGRAM).module()
    for count in (1, 5):
        pixels = torch.randn(count, 3, side, side)
        expected = model(pixels)
        assert np.abs(in_onnxruntime(folder, pixels) - expected.numpy()).max() <= 1e-4
        assert (run(pixels) - expected).abs().max() <= 1e-5
    assert sorted(file.name for file in folder.iterdir()) == sorted(
        [ONNX, PROGRAM, *([ONNX_DATA] if largest_bytes == 0 else [])]
    )


@pytest.mark.deployment
@needs_torch
@pytest.mark.parametrize("name", KINDS)
def test_every_head_is_the_same_in_onnx_and_torch_export(name, tmp_path):
    check_files(model_of(name), tmp_path, programs.LARGEST_ONNX_BYTES)


@pytest.mark.deployment
@needs_torch
@pytest.mark.parametrize("backbone", ["ViT-B-16", "RN50"])
def test_real_shapes_and_weights_in_a_file_beside(backbone, tmp_path):
    check_files(random_mixture(BackboneOptions(backbone, "random").load()), tmp_path, 0)


@needs_torch
def test_a_file_that_would_answer_otherwise_is_not_kept(tmp_path):
    model = model_of("one prompt")
    other = model_of("mean gate")
    program = programs.trace(other)
    with pytest.raises(MethodError, match="would answer otherwise than the model"):
        programs.write_program(program, model, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_is_missing_is_said_before_any_work(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ConfigError, match=r"pip install 'pfedmoap\[export\]'"):
        programs.require_onnx()


def test_an_old_torch_is_named(monkeypatch):
    monkeypatch.setattr(torch, "__version__", "2.5.1+cpu")
    with pytest.raises(ConfigError, match=r"need torch 2\.6 or newer, and this is 2\.5\.1"):
        programs.require_torch()
