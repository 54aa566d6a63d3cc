"""The path of a hospital network's engineer: photographs of sites, a CLIP of theirs, ONNX, HTTP."""

import json
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import pfedmoap
from eval.classifier_service import PATH, classifier_service
from eval.commands import export, train
from pfedmoap.exported.programs import OLDEST_TORCH, torch_release
from pfedmoap.models.clip.preprocessing import Preprocessing
from pfedmoap.serving.listener import Listener
from tests.helpers.exported import local_clip
from tests.helpers.serving import request, running

onnxruntime = pytest.importorskip("onnxruntime")

SITES = tuple(f"site {letter}" for letter in "abcdefghijkl")
CLASSES = ("normal", "abnormal")


def photographs(root: Path) -> None:
    """Twelve folders of sites with two classes each, in sizes that no model takes."""
    stream = np.random.default_rng(0)
    for site in SITES:
        for shade, name in enumerate(CLASSES):
            folder = root / site / name
            folder.mkdir(parents=True)
            for number in range(4):
                pixels = stream.integers(0, 100, (40, 52, 3), dtype=np.uint8) + 100 * shade
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")


@pytest.mark.skipif(torch_release() < OLDEST_TORCH, reason="needs a newer torch")
def test_photographs_of_sites_become_onnx_and_http(tmp_path, capsys, monkeypatch):
    photographs(tmp_path / "photographs")
    local_clip(tmp_path / "clip")
    run, model = tmp_path / "run", tmp_path / "model"
    train.main(
        [
            *("--backbone.model", f"local-dir:{tmp_path / 'clip'}", "--device", "cpu"),
            *("--data", "folder", "--data.root", str(tmp_path / "photographs")),
            *("--partition", "domain", "--partition.clients_per_domain", "1"),
            *("--method.context_length", "2", "--method.experts", "2"),
            *("--training.epochs", "1", "--rounds.rounds", "2", "--sampling.shots", "2"),
            *("--features.cache", str(tmp_path / "cache"), "--out", str(run), "--quiet", "true"),
        ]
    )
    assert pfedmoap.load(run).clients == tuple(range(12))
    made = ["--onnx", "true", "--torch_export", "true", "--device", "cpu"]
    export.main([str(run), "--client", "3", "--out", str(model), *made])
    assert str(model) in capsys.readouterr().out

    # The folder alone answers as the run does.
    files = sorted((tmp_path / "photographs" / "site d").rglob("*.png"))
    expected = pfedmoap.PersonalizedClassifier.load(run, 3, device="cpu").classify(files)
    run.rename(tmp_path / "away")
    (tmp_path / "clip").rename(tmp_path / "clip away")
    classifier = pfedmoap.PersonalizedClassifier.load(model, device="cpu")
    found = classifier.classify(files)
    for ours, theirs in zip(expected, found, strict=True):
        assert dict(theirs.ranking) == pytest.approx(dict(ours.ranking), abs=1e-5)
        assert ours.attention is not None
        assert theirs.attention is not None
        assert dict(theirs.attention) == pytest.approx(dict(ours.attention), abs=1e-5)

    # So does ONNX, from what the JSON says of preprocessing; and torch.export.
    told = json.loads((model / "model.json").read_text())
    prepare = Preprocessing(**told["preprocessing"])
    assert prepare.mean == [0.4, 0.5, 0.6]
    pixels = torch.stack([prepare.centre(Image.open(file)) for file in files])
    session = onnxruntime.InferenceSession(model / "model.onnx", providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == ["batch", 3, 32, 32]
    assert json.loads(session.get_modelmeta().custom_metadata_map["class_names"]) == [
        "abnormal",
        "normal",
    ]
    by_name = [dict(answer.ranking) for answer in found]
    wanted = np.array([[chances[name] for name in told["class_names"]] for chances in by_name])
    in_onnx = session.run(["probabilities"], {"pixels": pixels.numpy()})[0]
    assert np.abs(in_onnx - wanted).max() <= 1e-4
    program = torch.export.load(model / "model.pt2").module()
    assert np.abs(program(pixels).detach().numpy() - wanted).max() <= 1e-5

    # And HTTP.
    with Listener(classifier_service(classifier)) as listener, running(listener):
        for file, answer in zip(files, found, strict=True):
            status, reply, _ = request(listener.port, "POST", PATH, file.read_bytes())
            assert status == 200
            probabilities = json.loads(reply)["probabilities"]
            assert probabilities == pytest.approx(dict(answer.ranking), abs=1e-6)
        assert request(listener.port, "GET", "/healthz")[0] == 200
        assert PATH in json.loads(request(listener.port, "GET", "/openapi.json")[1])["paths"]

    # Nothing that is given away says where it was made.
    with zipfile.ZipFile(model / "model.pt2") as archive:
        contents = [archive.read(name) for name in archive.namelist()]
    contents += [file.read_bytes() for file in model.iterdir()]
    for content in contents:
        assert not re.search(rb"/pfedmoap/|site-packages|%b" % str(tmp_path).encode(), content)
