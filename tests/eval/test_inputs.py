"""What people give to the commands: images in any form, and things that are no images."""

import os
import sys

import numpy as np
import pytest
from PIL import Image

from eval.commands import export, predict
from pfedmoap import FederatedPromptClassifier, PersonalizedClassifier
from pfedmoap.errors import DataError

STRIPES = np.kron(np.random.default_rng(3).integers(0, 255, (6, 4, 3)), np.ones((8, 8, 1)))
STRIPES = STRIPES.astype(np.uint8)


def probabilities(classifier, image) -> dict[str, float]:
    return dict(classifier.classify([image])[0].ranking)


def test_a_classifier_sees_the_same_whatever_it_is_given(finished_run, tmp_path) -> None:
    """A phone's photograph, a cutout and 16-bit grey, as path, bytes, image and array."""
    classifier = PersonalizedClassifier.load(finished_run, client=0)
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = np.rot90(STRIPES, -1)
    Image.fromarray(STRIPES).save(tmp_path / "phone.png", exif=exif)
    cutout = np.dstack([STRIPES, np.where(STRIPES[..., 0] > 120, 255, 0).astype(np.uint8)])
    Image.fromarray(cutout).save(tmp_path / "cutout.png")
    white = np.where(cutout[..., 3:] == 0, 255, STRIPES).astype(np.uint8)
    Image.fromarray(STRIPES[..., 0].astype(np.uint16) * 257).save(tmp_path / "xray.png")
    kinds = {"phone.png": upright, "cutout.png": white, "xray.png": STRIPES[..., 0]}
    for name, pixels in kinds.items():
        path = tmp_path / name
        expected = probabilities(classifier, Image.fromarray(np.ascontiguousarray(pixels)))
        with Image.open(path) as opened:
            ways = [path, str(path), path.read_bytes(), opened, pixels]
            for way in ways:
                assert probabilities(classifier, way) == expected, name
    batch = classifier.classify(np.stack([white, STRIPES]))
    assert dict(batch[0].ranking) == pytest.approx(probabilities(classifier, white), abs=1e-5)
    for wrong in (tmp_path / "phone.png", "phone.png", STRIPES, []):
        with pytest.raises(DataError, match=r"takes a list of images"):
            classifier.classify(wrong)


def test_predict_says_in_one_line_what_is_no_image(finished_run, tmp_path, capsys) -> None:
    (tmp_path / "text.jpg").write_text("words")
    (tmp_path / "shelf.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "link.png").symlink_to("nowhere")
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")
    for name in ("text.jpg", "shelf.png", "pipe.png", "link.png", odd):
        with pytest.raises(SystemExit) as ended:
            predict.main([str(finished_run), str(tmp_path / name), "--client", "0"])
        said = capsys.readouterr().err
        assert ended.value.code == 1
        assert said.count("\n") == 1
        wanted = "there is no image in" if name == "shelf.png" else "cannot be read as an image"
        assert wanted in said


def test_predict_reads_a_file_whose_name_is_not_utf_8(finished_run, tmp_path, monkeypatch) -> None:
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")
    Image.fromarray(STRIPES).save(odd)
    with (tmp_path / "out.txt").open("w", encoding="utf-8") as out:
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.chdir(tmp_path)
        predict.main([str(finished_run), os.path.basename(odd), "--client", "0"])
    assert r"caf\udce9.png" in (tmp_path / "out.txt").read_text()


def test_whoever_asks_the_embedded_model_about_photographs_is_warned_once(
    finished_run, tmp_path, capsys, caplog
) -> None:
    small, large = Image.new("RGB", (64, 70)), Image.new("RGB", (90, 80))
    export.main([str(finished_run), "--client", "0", "--out", str(tmp_path / "model")])
    assert "it is no model of photographs" in (tmp_path / "model" / "README.md").read_text()
    for source, client in ((finished_run, 0), (tmp_path / "model", None)):
        classifier = PersonalizedClassifier.load(source, client, device="cpu")
        classifier.classify([small])
        assert caplog.text == ""
        for _ in range(2):
            classifier.classify([large])
        assert caplog.text.count("is no model of photographs") == 1
        caplog.clear()
    large.save(tmp_path / "large.png")
    predict.main([str(tmp_path / "model"), str(tmp_path / "large.png"), "--json"])
    assert "these are images as large as photographs" in capsys.readouterr().err


def test_a_classifier_of_scikit_learn_warns_when_it_is_fitted_to_photographs(caplog) -> None:
    model = FederatedPromptClassifier("zero_shot", rounds=1, device="cpu")
    for side, warned in ((64, 0), (80, 1)):
        images = np.zeros((4, side, side, 3), dtype=np.uint8)
        model.fit(images, [0, 1, 0, 1]).predict(images)
        assert caplog.text.count("is no model of photographs") == warned


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["missing", "a.png"], "missing does not exist; name a run directory and one of its"),
        (["missing", "a.png", "--client", "x"], "number of at most 63 bits or null; got x\n"),
        (["missing"], "required: images; --help explains them\n"),
    ],
)
def test_predict_says_what_it_takes(words, said, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        predict.main(words)
    assert said in capsys.readouterr().err
