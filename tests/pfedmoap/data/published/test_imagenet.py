"""ImageNet and the sets that test what was trained on it."""

import numpy as np
import pytest

from pfedmoap.data.published.catalogue import READERS
from pfedmoap.errors import DataError
from tests.helpers import coop_miniatures as miniatures

WRITERS = {
    "imagenet": miniatures.imagenet,
    "imagenetv2": miniatures.imagenetv2,
    "imagenet_sketch": miniatures.sketch,
    "imagenet_a": miniatures.hard,
    "imagenet_r": miniatures.renditions,
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    place = tmp_path_factory.mktemp("imagenet")
    for write in WRITERS.values():
        write(place)
    return place


def read(name, root):
    return READERS[name](root=str(root)).read()


def test_imagenet_has_both_divisions_and_the_user_s_names(root):
    dataset = read("imagenet", root)
    assert len(dataset.class_names) == 1000
    assert np.bincount(dataset.labels[dataset.is_test]).tolist() == [1] * 1000
    assert np.bincount(dataset.labels[~dataset.is_test]).tolist() == [1] * 1000
    assert dataset.class_names[3] == "thing 3"
    assert dataset.class_names[7] == "thing 3 (n00000007)"
    for label, path in zip(dataset.labels, dataset.load.paths, strict=True):
        assert path.parent.name == miniatures.WORDNET[label]


@pytest.mark.parametrize(
    ("name", "classes"),
    [("imagenetv2", 1000), ("imagenet_sketch", 1000), ("imagenet_a", 200), ("imagenet_r", 200)],
)
def test_the_others_are_for_testing_alone_and_have_imagenet_s_names(name, classes, root):
    dataset = read(name, root)
    assert len(dataset.class_names) == len(dataset) == classes
    assert dataset.is_test.all()
    whole = read("imagenet", root).class_names
    assert set(dataset.class_names) <= set(whole)
    for label, path in zip(dataset.labels, dataset.load.paths, strict=True):
        kind = path.parent.name
        place = int(kind) if name == "imagenetv2" else miniatures.WORDNET.index(kind)
        assert dataset.class_names[label] == whole[place]


@pytest.mark.parametrize("name", WRITERS)
def test_missing_data_say_what_to_fetch_and_where(name, tmp_path):
    with pytest.raises(DataError, match=r"classnames\.txt") as caught:
        read(name, tmp_path)
    assert "https://" in str(caught.value)


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (["n0 tench"], "names 1 classes in 1 lines, expected 1000"),
        ([f"n{i}" for i in range(1000)], "has no name for n0"),
    ],
)
def test_other_class_names_are_refused(lines, why, tmp_path):
    miniatures.lines(tmp_path / "imagenet/classnames.txt", lines)
    with pytest.raises(DataError, match=why):
        read("imagenet", tmp_path)


def test_a_foreign_or_missing_folder_is_named(tmp_path):
    miniatures.hard(tmp_path)
    foreign = tmp_path / "imagenet-adversarial/imagenet-a/n99999999"
    foreign.mkdir()
    with pytest.raises(DataError, match="'n99999999' that is no class"):
        read("imagenet_a", tmp_path)
    foreign.rmdir()
    (tmp_path / "imagenet-adversarial/imagenet-a/n00000000/image.jpg").unlink()
    with pytest.raises(DataError, match="1 of 200 classes have no test image: thing 0"):
        read("imagenet_a", tmp_path)
