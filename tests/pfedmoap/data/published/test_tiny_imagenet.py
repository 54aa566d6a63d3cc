"""Tiny-ImageNet as its archive unpacks."""

import pytest

from pfedmoap.data.published.tiny_imagenet import TinyImageNet
from pfedmoap.errors import DataError
from tests.helpers.miniatures import photograph

WORDS = {"n02": "crane, wading bird", "n01": "goldfish, Carassius auratus", "n03": "crane, lifter"}


@pytest.fixture
def root(tmp_path):
    (tmp_path / "wnids.txt").write_text("n02\nn01\nn03\n")
    words = {**WORDS, "n09": "something else"}
    (tmp_path / "words.txt").write_text("".join(f"{k}\t{v}\n" for k, v in words.items()))
    lines = []
    for number, key in enumerate(WORDS):
        for image in range(2):
            photograph(tmp_path / f"train/{key}/images/{key}_{image}.JPEG", number, image)
        photograph(tmp_path / f"val/images/val_{number}.JPEG", number, 9)
        lines.append(f"val_{number}.JPEG\t{key}\t0\t0\t9\t9\n")
    (tmp_path / "val/val_annotations.txt").write_text("".join(lines))
    return tmp_path


def test_labels_are_sorted_ids_and_names_are_unique(root) -> None:
    dataset = TinyImageNet(str(root)).read()
    assert dataset.class_names == ("goldfish", "wading bird", "lifter")
    tested = {
        path.name: int(label)
        for path, label in zip(dataset.load.paths, dataset.labels, strict=True)
        if path.parent.parent.name == "val"
    }
    assert tested == {"val_0.JPEG": 1, "val_1.JPEG": 0, "val_2.JPEG": 2}


def test_missing_parts_are_named(root, tmp_path) -> None:
    (root / "val/images/val_1.JPEG").unlink()
    with pytest.raises(DataError, match=r"1 missing:\n  val/images/val_1\.JPEG"):
        TinyImageNet(str(root)).read()
    (root / "words.txt").unlink()
    with pytest.raises(DataError, match=r"words\.txt.*tiny-imagenet-200\.zip"):
        TinyImageNet(str(root)).read()
