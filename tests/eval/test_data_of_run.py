"""Data that change or move after training: every command says so, and nothing is mixed."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eval.commands import evaluate, predict, report, train
from pfedmoap.data.known_data import KnownData
from pfedmoap.errors import RunError
from pfedmoap.runs.directory import RunDirectory
from pfedmoap.runs.layout import Layout

SMALL = [
    "--partition",
    "iid",
    "--partition.clients",
    "2",
    "--method",
    "promptfl",
    "--method.context_length",
    "2",
    "--training.epochs",
    "1",
    "--rounds.rounds",
    "1",
    "--quiet",
    "true",
    "--backbone.device",
    "cpu",
]


def picture(*seed: int) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 255, (8, 8, 3))
    return Image.fromarray(noise.astype(np.uint8))


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> str:
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory, stored) -> Path:
    """A folder with photographs, and a run on them that named them by a relative path."""
    home = tmp_path_factory.mktemp("home")
    for part, count in (("train", 6), ("test", 4)):
        for number, name in enumerate(("cat", "dog")):
            (home / "photos" / part / name).mkdir(parents=True)
            for i in range(count):
                file = home / "photos" / part / name / f"{i}.png"
                picture(count, number, i).save(file)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        options = ["--data", "folder", "--data.root", "photos", "--features.cache", stored]
        train.main([*SMALL, *options, "--out", "run"])
    return home


@pytest.fixture
def home(trained, tmp_path) -> Path:
    """A copy of that folder, moved with its data: the original is out of reach."""
    shutil.copytree(trained, tmp_path / "moved")
    task = tmp_path / "moved" / "run" / "task.json"
    assert str(trained) in task.read_text()
    shutil.move(trained, trained.with_name("away"))
    yield tmp_path / "moved"
    shutil.move(trained.with_name("away"), trained)


def said(capsys, caplog) -> str:
    captured = capsys.readouterr()
    text = " ".join((captured.out + captured.err + caplog.text).split())
    caplog.clear()
    return text


def refused(command, *arguments: str) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(list(arguments))
    assert ended.value.code == 1


def test_paths_are_kept_absolute_and_relative(trained, monkeypatch, capsys, caplog) -> None:
    known = RunDirectory(trained / "run").task["data_files"]
    assert known["absolute"] == str(trained / "photos")
    assert known["relative"] == "../photos"
    assert len(known["files"]) == known["images"] == 20
    assert known["files"]["train/cat/0.png"].startswith("train ")
    monkeypatch.chdir("/")
    evaluate.main([str(trained / "run")])
    predict.main([str(trained / "run"), str(trained / "photos/test/cat/0.png"), "--client", "0"])
    assert "changed since" not in said(capsys, caplog)


def test_data_that_moved_with_the_run_are_found(home, capsys, caplog) -> None:
    evaluate.main([str(home / "run")])
    assert "changed since" not in said(capsys, caplog)


def test_data_that_moved_elsewhere_are_named_again(home, stored, tmp_path, capsys, caplog) -> None:
    new = str(tmp_path / "archive")
    shutil.move(home / "photos", new)
    run = str(home / "run")
    refused(evaluate, run)
    assert "say where they are with --data.root" in said(capsys, caplog)
    evaluate.main([run, "--data.root", new])
    report.main([run, "--data.root", new, "--out", str(tmp_path / "page.html")])
    resumed = [*SMALL, "--data", "folder", "--data.root", new, "--features.cache", stored]
    train.main([*resumed, "--out", run, "--resume", "true"])
    assert "changed since" not in said(capsys, caplog)
    refused(evaluate, run, "--data.root", str(tmp_path / "nowhere"))
    assert "nothing at" in said(capsys, caplog)


def test_digits_have_no_place(finished_run, capsys, caplog) -> None:
    assert "data_files" not in RunDirectory(finished_run).task
    refused(evaluate, str(finished_run), "--data.root", "/tmp")
    assert "'digits' has no place" in said(capsys, caplog)


def test_every_command_says_what_changed(home, stored, tmp_path, capsys, caplog) -> None:
    photos, run = home / "photos", str(home / "run")
    picture(77).save(photos / "test/cat/new.png")
    (photos / "test/dog/3.png").unlink()
    picture(78).save(photos / "train/cat/0.png")
    what = "1 added (test/cat/new.png), 1 removed (test/dog/3.png), 1 changed (train/cat/0.png)"
    evaluate.main([run])
    assert what in said(capsys, caplog)
    report.main([run, "--out", str(tmp_path / "page.html")])
    assert what in said(capsys, caplog)
    predict.main([run, str(photos / "test/cat/new.png"), "--client", "0"])
    quick = "1 removed (test/dog/3.png), 1 changed (train/cat/0.png)"
    assert quick in said(capsys, caplog)
    options = [*SMALL, "--data", "folder", "--features.cache", stored, "--out", run]
    before = sorted((path, path.stat().st_mtime_ns) for path in (home / "run").rglob("*"))
    refused(train, *options, "--data.root", str(photos), "--resume", "true")
    assert what in said(capsys, caplog)
    assert before == sorted((path, path.stat().st_mtime_ns) for path in (home / "run").rglob("*"))


def test_images_that_were_trained_on_are_never_tested_on(home, tmp_path, capsys, caplog) -> None:
    photos, run = home / "photos", str(home / "run")
    predict.main([run, str(photos / "train/cat/1.png"), "--client", "0"])
    assert "was trained on, as train/cat/1.png" in said(capsys, caplog)
    shutil.move(photos / "train/cat/1.png", photos / "test/cat/fresh.png")
    for command, more in ((evaluate, []), (report, ["--out", str(tmp_path / "page.html")])):
        refused(command, run, *more)
        text = said(capsys, caplog)
        assert "1 test images were trained on" in text
        assert "test/cat/fresh.png" in text


def test_other_classes_are_refused_by_name(home, capsys, caplog) -> None:
    shutil.copytree(home / "photos/test/cat", home / "photos/test/owl")
    shutil.copytree(home / "photos/train/cat", home / "photos/train/owl")
    refused(evaluate, str(home / "run"))
    assert "classes are 3 others now" in said(capsys, caplog)


def test_a_division_that_is_drawn_anew_is_noticed(tmp_path, stored, capsys, caplog) -> None:
    """One file more, and the test images are others: some were trained on."""
    for number, name in enumerate(("cat", "dog")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(10):
            picture(5, number, i).save(tmp_path / "photos" / name / f"{i}.png")
    run = str(tmp_path / "run")
    options = ["--data", "folder", "--data.root", str(tmp_path / "photos"), "--sampling.shots", "3"]
    train.main([*SMALL, *options, "--features.cache", stored, "--out", run])
    evaluate.main([run])
    assert "changed" not in said(capsys, caplog)
    (tmp_path / "photos/cat/9.png").rename(tmp_path / "photos/cat/00.png")
    picture(9).save(tmp_path / "photos/dog/00.png")
    refused(evaluate, run)
    assert "were trained on by" in said(capsys, caplog)


def test_names_of_a_private_run_s_files_are_private(tmp_path) -> None:
    public, private = Layout(tmp_path, divided=True).task({"data_files": {}, "templates": []})
    assert "data_files" not in public
    assert "data_files" in private


def test_damaged_knowledge_is_one_line(home) -> None:
    record = json.loads((home / "run" / "task.json").read_text())["data_files"]
    assert KnownData.read(record).write() == record
    for wrong in (None, [], {}, record | {"files": {"a": "x"}}, record | {"images": "many"}):
        with pytest.raises(RunError, match="what the run knows of its data is damaged"):
            KnownData.read(wrong)
