"""Folder trees: layouts, names, order, and files that cannot be read."""

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pfedmoap.data.folder import ImageFolder, human_name
from pfedmoap.errors import DataError


def write(root: Path, *paths: str) -> None:
    """Write a small image to each path, each of its own colour."""
    for path in paths:
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        red = (sum(map(ord, path)) * 31 + len(path)) % 256
        Image.new("RGB", (6, 5), (red, len(path), 7)).save(target)


def cells(*folders: str, count: int = 4) -> list[str]:
    return [f"{folder}/{number}.png" for folder in folders for number in range(count)]


def test_class_folders(tmp_path) -> None:
    write(tmp_path, *cells("zebra", "ant", "t-shirt"))
    data = ImageFolder(str(tmp_path), test_fraction=0.5).read()
    assert data.class_names == ("ant", "t-shirt", "zebra")
    assert np.bincount(data.labels).tolist() == [4, 4, 4]
    assert np.bincount(data.labels[data.is_test]).tolist() == [2, 2, 2]
    assert data.domains is None
    assert data.name == tmp_path.name


def test_class_name_order(tmp_path) -> None:
    """Label k means name k in every process, whatever order the file system lists."""
    write(tmp_path, *cells("b", "a", "c", "10", "9"))
    data = ImageFolder(str(tmp_path)).read()
    for index in range(len(data)):
        folder = data.load.paths[index].parent.name
        assert data.class_names[data.labels[index]] == folder


def test_given_divisions_and_unused_validation(tmp_path, caplog) -> None:
    write(tmp_path, *cells("train/a", "train/b"), *cells("test/a", "test/b", "val/a", count=2))
    with caplog.at_level(logging.WARNING):
        data = ImageFolder(str(tmp_path)).read()
    assert (len(data), data.is_test.sum()) == (12, 4)
    assert data.class_names == ("a", "b")
    assert "val (2 images) is not used" in caplog.text
    assert all(
        ("/test/" in str(p)) == t for p, t in zip(data.load.paths, data.is_test, strict=True)
    )


def test_domains(tmp_path) -> None:
    write(tmp_path, *cells("web/a", "web/b", "amazon/a", "amazon/b"))
    data = ImageFolder(str(tmp_path), test_fraction=0.25).read()
    assert data.domain_names == ("amazon", "web")
    for domain in (0, 1):
        for label in (0, 1):
            cell = (data.domains == domain) & (data.labels == label)
            assert (cell.sum(), data.is_test[cell].sum()) == (4, 1)


def test_subfolders_of_classes_may_be_people(tmp_path, caplog) -> None:
    """The same name is the same person, in whatever class or domain it stands."""
    write(tmp_path / "a", *cells("cat/ann", "cat/bob", "cat/eve", "dog/ann"), "dog/stray.png")
    data = ImageFolder(str(tmp_path / "a"), groups="subfolder").read()
    assert data.class_names == ("cat", "dog")
    assert data.groups.tolist() == [0] * 4 + [1] * 4 + [2] * 4 + [0] * 4
    assert not set(data.groups[data.is_test]) & set(data.groups[~data.is_test])
    assert "1 images lie at another depth" in caplog.text
    write(tmp_path / "b", *cells("east/cat/ann", "west/cat/bob"))
    data = ImageFolder(str(tmp_path / "b"), groups="subfolder").read()
    assert data.domain_names == ("east", "west")
    assert data.groups.tolist() == [0] * 4 + [1] * 4
    write(tmp_path / "c", *cells("train/cat/ann", "test/cat/ann", "test/cat/bob"))
    caplog.clear()
    data = ImageFolder(str(tmp_path / "c"), groups="subfolder").read()
    assert data.is_test.tolist() == [True] * 8 + [False] * 4
    assert "1 of 2 groups have images for training and for testing" in caplog.text
    with pytest.raises(DataError, match="no images as class/person/image"):
        ImageFolder(str(tmp_path / "c" / "train" / "cat"), groups="subfolder").read()


def test_train_and_test_may_be_domains_if_asked(tmp_path) -> None:
    write(tmp_path, *cells("train/a", "test/a"))
    assert ImageFolder(str(tmp_path), layout="domains").read().domain_names == ("test", "train")


def test_domains_with_different_classes_are_united_or_refused(tmp_path, caplog) -> None:
    write(tmp_path, *cells("x/a", "x/b", "y/b", "y/c"))
    with caplog.at_level(logging.WARNING):
        data = ImageFolder(str(tmp_path)).read()
    assert data.class_names == ("a", "b", "c")
    assert "x has no image of the classes ['c']" in caplog.text
    write(tmp_path, *cells("z/d"))
    with pytest.raises(DataError, match="no class folder is common to all of its parts"):
        ImageFolder(str(tmp_path)).read()


def test_unreadable_files_are_listed_by_name_with_the_reason(tmp_path, caplog) -> None:
    write(tmp_path, *cells("a", "b"))
    (tmp_path / "a/broken.jpg").write_text("text")
    (tmp_path / "b/empty.png").touch()
    cut = tmp_path / "b/3.png"
    cut.write_bytes(cut.read_bytes()[:50])
    with caplog.at_level(logging.WARNING):
        data = ImageFolder(str(tmp_path)).read()
    assert len(data) == 7
    assert [entry.split(":")[0] for entry in data.unreadable] == [
        "a/broken.jpg",
        "b/3.png",
        "b/empty.png",
    ]
    assert data.unreadable[0].endswith("not an image")
    assert "3 of 10 image files cannot be read" in caplog.text
    assert "b/empty.png: the file is empty" in caplog.text


def test_other_files_are_no_images(tmp_path) -> None:
    write(tmp_path, *cells("a", "b"), ".cache/x/0.png", "a/.hidden.png")
    (tmp_path / "LICENSE").write_text("free")
    (tmp_path / "a/notes.txt").write_text("notes")
    data = ImageFolder(str(tmp_path)).read()
    assert (len(data), data.unreadable) == (8, ())


def test_misplaced_images_are_reported(tmp_path, caplog) -> None:
    write(tmp_path, *cells("a", "b"), "overview.png")
    with caplog.at_level(logging.WARNING):
        assert len(ImageFolder(str(tmp_path)).read()) == 8
    assert "1 images lie at another depth" in caplog.text


def test_mixed_depths_need_a_choice(tmp_path) -> None:
    write(tmp_path, *cells("a", "b"), *cells("c/a", "c/b", count=2))
    with pytest.raises(DataError, match="choose the layout"):
        ImageFolder(str(tmp_path)).read()
    assert len(ImageFolder(str(tmp_path), layout="classes").read()) == 8
    assert len(ImageFolder(str(tmp_path), layout="domains").read()) == 4


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ([], "holds no images as class/image"),
        (["only.png"], "1 images elsewhere"),
        (cells("train/a", "train/b"), "not both train/ and test/"),
        (cells("train/a", "test/a", "extra/a"), "'extra' beside test/, train/"),
    ],
)
def test_other_trees_are_refused(tmp_path, paths, message) -> None:
    write(tmp_path, *paths)
    with pytest.raises(DataError, match=message):
        ImageFolder(str(tmp_path)).read()


def test_absent_root_and_all_unreadable(tmp_path) -> None:
    with pytest.raises(DataError, match="is not a folder"):
        ImageFolder(str(tmp_path / "nowhere")).read()
    (tmp_path / "a").mkdir()
    (tmp_path / "a/0.png").touch()
    with pytest.raises(DataError, match="1 of 1 image files cannot be read"):
        ImageFolder(str(tmp_path)).read()
    write(tmp_path, *cells("b"))
    with pytest.raises(DataError, match=r"no image of \['a'\] can be read"):
        ImageFolder(str(tmp_path)).read()


def test_given_class_names(tmp_path) -> None:
    write(tmp_path, *cells("n01", "n02"))
    data = ImageFolder(str(tmp_path), class_names={"n01": "goldfish"}).read()
    assert data.class_names == ("goldfish", "n02")
    with pytest.raises(DataError, match="n03"):
        ImageFolder(str(tmp_path), class_names={"n03": "shark"}).read()
    with pytest.raises(DataError, match="same name"):
        ImageFolder(str(tmp_path), class_names={"n01": "n02"}).read()


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("sleeping_bag", "sleeping bag"),
        ("t-shirt", "t-shirt"),
        ("001.Black_footed_Albatross", "Black footed Albatross"),
        ("7", "7"),
        ("_", "_"),
    ],
)
def test_human_names(folder, name) -> None:
    assert human_name(folder) == name


def test_duplicates_across_divisions_are_counted(tmp_path, caplog) -> None:
    write(tmp_path, *cells("train/a"))
    (tmp_path / "test/a").mkdir(parents=True)
    for number in (0, 1):
        (tmp_path / f"test/a/copy{number}.png").write_bytes(
            (tmp_path / f"train/a/{number}.png").read_bytes()
        )
    with caplog.at_level(logging.WARNING):
        ImageFolder(str(tmp_path)).read()
    assert "2 of 2 test images are byte for byte the same" in caplog.text


def test_fingerprint_follows_content_and_names_only(tmp_path) -> None:
    write(tmp_path, *cells("a", "b"))

    def fingerprint(**options):
        return ImageFolder(str(tmp_path), **options).read().fingerprint

    first = fingerprint()
    assert fingerprint(seed=3, test_fraction=0.5) == first
    (tmp_path / "a/0.png").rename(tmp_path / "a/00.png")
    renamed = fingerprint()
    Image.new("RGB", (6, 5), (1, 2, 3)).save(tmp_path / "b/1.png")
    assert len({first, renamed, fingerprint()}) == 3


def test_images_are_rgb(tmp_path) -> None:
    (tmp_path / "a").mkdir()
    Image.new("L", (5, 4), 9).save(tmp_path / "a/0.png")
    Image.new("CMYK", (5, 4)).save(tmp_path / "a/1.jpg")
    data = ImageFolder(str(tmp_path)).read()
    assert {data.load(index).mode for index in range(2)} == {"RGB"}
    assert data.load(0).size == (5, 4)
