"""Folder trees as people have them: their own divisions, and what else lies in them."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pfedmoap.data.csv_table import CSVTable
from pfedmoap.data.folder import ImageFolder
from pfedmoap.data.split_names import roles_of, uses_of
from pfedmoap.errors import DataError

CLASSES = ("church", "tench")


def put(root: Path, *folders: str, count: int = 2, suffix: str = ".png") -> None:
    """Write small images into folders."""
    for folder in folders:
        (root / folder).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            code = sum(map(ord, folder)) * 7 + number
            colour = (code % 251, code % 241, code % 239)
            Image.new("RGB", (6, 5), colour).save(root / folder / f"{number}{suffix}", "PNG")


def parts_of(root: Path, level: int = 0, **options) -> dict[str, set[str]]:
    """Which folders' images are trained on, and which are tested on."""
    data = ImageFolder(str(root), **options).read()
    assert data.class_names == CLASSES
    names = [path.relative_to(root).parts[level] for path in data.load.paths]
    return {
        "train": {n for n, test in zip(names, data.is_test, strict=True) if not test},
        "test": {n for n, test in zip(names, data.is_test, strict=True) if test},
    }


@pytest.mark.parametrize(
    ("train", "test", "unused"),
    [
        ("train", "val", ()),
        ("train", "validation", ()),
        ("Training", "Testing", ()),
        ("train", "eval", ()),
        ("TRAIN", "Valid", ()),
        ("trn", "tst", ()),
        ("train", "dev", ()),
        ("training_set", "test_set", ()),
        ("trainset", "testset", ()),
        ("seg_train", "seg_test", ()),
        ("train2017", "val2017", ()),
        ("alphabet_train", "alphabet_test", ()),
        ("train", "test", ("val",)),
        ("Train", "Test", ("Valid",)),
        ("train", "test", ("dev", "eval")),
    ],
)
def test_a_tree_s_own_division_is_never_domains(tmp_path, caplog, train, test, unused) -> None:
    put(tmp_path, *(f"{part}/{name}" for part in (train, test, *unused) for name in CLASSES))
    for layout in ("auto", "splits", "classes"):
        assert parts_of(tmp_path, layout=layout) == {"train": {train}, "test": {test}}
    if (train, test, unused) != ("train", "test", ()):
        assert f"{train} (4 images) is trained on" in caplog.text
        assert f"{test} (4 images) is tested on" in caplog.text
        assert all(f"{part} (4 images) is not used" in caplog.text for part in unused)


def test_a_division_below_classes_or_around_domains(tmp_path) -> None:
    put(tmp_path / "a", *(f"{name}/{part}" for name in CLASSES for part in ("train", "val")))
    assert parts_of(tmp_path / "a", level=1) == {"train": {"train"}, "test": {"val"}}
    cells = [f"{d}/{n}" for d in ("art", "photo") for n in CLASSES]
    put(tmp_path / "b", *(f"{part}/{cell}" for part in ("train", "Test") for cell in cells))
    assert parts_of(tmp_path / "b") == {"train": {"train"}, "test": {"Test"}}
    assert ImageFolder(str(tmp_path / "b")).read().domain_names == ("art", "photo")
    put(tmp_path / "c", *(f"art/{part}/{n}" for part in ("train", "test") for n in CLASSES))
    assert parts_of(tmp_path / "c", level=1) == {"train": {"train"}, "test": {"test"}}


def test_a_test_part_without_labels_is_not_read_as_a_class(tmp_path, caplog) -> None:
    put(tmp_path, *(f"{part}/{name}" for part in ("train", "val") for name in CLASSES), "test")
    assert parts_of(tmp_path) == {"train": {"train"}, "test": {"val"}}
    assert "2 images lie right in a part of the division, without a class" in caplog.text
    put(tmp_path / "two", "train/church", "train/tench", "test")
    assert parts_of(tmp_path / "two") == {"train": {"train"}, "test": {"train"}}
    put(tmp_path / "flat", "train", "test")
    with pytest.raises(DataError, match=r"images right in test/, train/.*without a folder for"):
        ImageFolder(str(tmp_path / "flat")).read()
    data = ImageFolder(str(tmp_path / "flat"), layout="classes").read()
    assert data.class_names == ("test", "train")


def test_what_is_ambiguous_is_refused_and_the_layout_says_what_is_meant(tmp_path, caplog) -> None:
    put(tmp_path, *(f"{part}/{name}" for part in ("train", "test", "sketch") for name in CLASSES))
    with pytest.raises(DataError, match=r"'sketch' beside test/, train/.*splits.*domains"):
        ImageFolder(str(tmp_path)).read()
    assert parts_of(tmp_path, layout="splits") == {"train": {"train"}, "test": {"test"}}
    assert ImageFolder(str(tmp_path), layout="domains").read().domain_names == (
        "sketch",
        "test",
        "train",
    )
    assert "test/, train/ are taken for domains" in caplog.text
    put(tmp_path / "b", *(f"{part}/{name}" for part in ("val", "test") for name in CLASSES))
    with pytest.raises(DataError, match="images of these are not trained on"):
        ImageFolder(str(tmp_path / "b")).read()
    put(tmp_path / "c", *CLASSES)
    with pytest.raises(DataError, match="no train/class/image"):
        ImageFolder(str(tmp_path / "c"), layout="splits").read()


def test_classes_and_domains_with_such_names_stay_what_they_are(tmp_path) -> None:
    put(tmp_path / "a", "train", "bus", "car")
    assert ImageFolder(str(tmp_path / "a")).read().class_names == ("bus", "car", "train")
    put(tmp_path / "b", *(f"{d}/{n}" for d in ("clipart", "real") for n in ("train", "zebra")))
    data = ImageFolder(str(tmp_path / "b")).read()
    assert (data.domain_names, data.class_names) == (("clipart", "real"), ("train", "zebra"))
    assert roles_of(["photo_test", "sketch_test"]) == {}
    assert roles_of(["latest", "contest", "trainer", "vale"]) == {}


def test_three_parts_hold_validation_out(tmp_path) -> None:
    roles = roles_of(["Train", "dev", "TEST"])
    assert uses_of(roles) == {"TEST": "test", "Train": "train", "dev": "unused"}
    put(tmp_path, "pictures", count=6)
    rows = [
        f"pictures/{i}.png,{'cat' if i % 2 else 'dog'},{part}"
        for i, part in enumerate(("Training", "Training", "val", "val", "Testing", "Testing"))
    ]
    (tmp_path / "list.csv").write_text("\n".join(["image,label,split", *rows]) + "\n")
    assert CSVTable(str(tmp_path / "list.csv")).read().is_test.tolist() == [False] * 2 + [True] * 2
    (tmp_path / "list.csv").write_text("\n".join(["image,label,split", *rows[:4]]) + "\n")
    assert CSVTable(str(tmp_path / "list.csv")).read().is_test.tolist() == [False] * 2 + [True] * 2


def test_every_suffix_and_folder_is_read_and_the_rest_is_named_once(tmp_path, caplog) -> None:
    for name, suffix in (("cat", ".jpg"), ("dog", ".jfif"), ("fox", ".heic"), ("owl", "")):
        put(tmp_path, name, suffix=suffix)
    put(tmp_path, "__background__", suffix=".jpe")
    put(tmp_path, "yak", suffix=".avif")
    put(tmp_path, ".hidden")
    (tmp_path / "emu").mkdir()
    for place in ("cat/notes.txt", "dog/notes.TXT", "LICENSE", "fox/model.npy"):
        (tmp_path / place).write_bytes(b"\0\0\2\0 nothing like an image")
    data = ImageFolder(str(tmp_path)).read()
    assert data.class_names == ("background", "cat", "dog", "fox", "owl", "yak")
    assert np.bincount(data.labels).tolist() == [2] * 6
    assert data.unreadable == ()
    assert caplog.text.count("passed over") == 1
    assert "4 files that are no images are passed over (2 .txt" in caplog.text
    assert "1 folders hold no image, so that no class comes of them: emu" in caplog.text


def test_folders_that_are_not_looked_into_are_counted(tmp_path, caplog, monkeypatch) -> None:
    put(tmp_path, *CLASSES, "church/a/b/c/d")
    data = ImageFolder(str(tmp_path), layout="classes").read()
    assert len(data) == 4
    assert "1 folders below depth 4 are not looked into" in caplog.text

    def refuse(folder):
        if str(folder).endswith("tench"):
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", refuse)
    ImageFolder(str(tmp_path), layout="classes").read()
    assert "1 folders cannot be read, such as" in caplog.text
    assert "tench (Permission denied)" in caplog.text
