"""Cars, aircraft, land, scenes and actions, read as CoOp lays them out, under CoOp's names."""

import json
import shutil

import numpy as np
import pytest

from pfedmoap.data.published import names
from pfedmoap.data.published.catalogue import READERS
from pfedmoap.errors import DataError
from tests.helpers import coop_miniatures as miniatures

SETS = {
    "stanford_cars": (miniatures.cars, 196, "stanford_cars"),
    "fgvc_aircraft": (miniatures.aircraft, 100, "fgvc_aircraft"),
    "eurosat": (miniatures.eurosat, 10, "eurosat"),
    "sun397": (miniatures.sun397, 397, "sun397"),
    "ucf101": (miniatures.ucf101, 101, "ucf101"),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    place = tmp_path_factory.mktemp("coop")
    for write, _, _ in SETS.values():
        write(place)
    return place


def read(name, root, **options):
    return READERS[name](root=str(root), **options).read()


@pytest.mark.parametrize("name", SETS)
def test_the_layout_is_read_with_every_class_in_both_divisions(name, root):
    dataset, (_, classes, _) = read(name, root), SETS[name]
    assert dataset.name == name
    assert len(dataset.class_names) == classes
    assert set(dataset.labels[dataset.is_test]) == set(range(classes))
    assert set(dataset.labels[~dataset.is_test]) == set(range(classes))
    assert dataset.load(0).size == (10, 12)
    assert all("{}" in template for template in dataset.templates)


@pytest.mark.parametrize(
    ("name", "label", "expected"),
    [
        ("stanford_cars", 3, "1993 Maker Model 3 Sedan"),
        ("fgvc_aircraft", 1, "701-100 Jet"),
        ("eurosat", 0, "Annual Crop Land"),
        ("sun397", 0, "indoor place 0"),
        ("sun397", 1, "place 1"),
        ("ucf101", 0, "Apply Eye Makeup"),
        ("ucf101", 1, "Yo Yo"),
    ],
)
def test_class_names_are_coops(name, label, expected, root):
    assert read(name, root).class_names[label] == expected


def test_every_label_is_that_of_the_image_s_own_place(root):
    for name in ("eurosat", "sun397", "ucf101"):
        dataset = read(name, root)
        for label, path in zip(dataset.labels, dataset.load.paths, strict=True):
            if name == "eurosat":
                assert names.EUROSAT[path.parent.name] == dataset.class_names[label]
            elif name == "sun397":
                assert miniatures.KINDS[label].strip("/") in path.as_posix()
            else:
                assert path.parent.name.replace("_", " ") == dataset.class_names[label]


def test_aircraft_are_read_as_torchvision_leaves_them_and_divided_as_asked(tmp_path, root):
    miniatures.aircraft(tmp_path, "fgvc-aircraft-2013b/data")
    (tmp_path / "fgvc-aircraft-2013b/data/manufacturers.txt").write_text("A\n")
    (tmp_path / "fgvc-aircraft-2013b/data/families.txt").write_text("A\n")
    theirs, ours = read("fgvc_aircraft", tmp_path), read("fgvc_aircraft", root)
    assert theirs.fingerprint == ours.fingerprint
    assert len(ours) == 300
    assert len(read("fgvc_aircraft", root, validation="unused")) == 200


@pytest.mark.parametrize("name", ["stanford_cars", "eurosat", "sun397", "ucf101"])
def test_coops_files_divide_and_are_held_against_the_annotation(name, root, tmp_path):
    dataset = read(name, root)
    inside = {"eurosat": "2750", "sun397": "SUN397", "ucf101": "UCF-101-midframes"}.get(name, "")
    division = {"train": [], "val": [], "test": []}
    for label, test, path in zip(dataset.labels, dataset.is_test, dataset.load.paths, strict=True):
        place = path.relative_to(root / SETS[name][2] / inside).as_posix()
        entry = [place, int(label), dataset.class_names[label].replace(" ", "_")]
        division["train" if test else "test"].append(entry)  # the other way round
    file = tmp_path / "split_zhou.json"
    file.write_text(json.dumps(division))
    again = read(name, root, split_file=str(file))
    assert len(again) == len(dataset)
    assert again.class_names == dataset.class_names
    assert again.is_test.sum() == (~dataset.is_test).sum()
    division["test"][0][1] += 1
    file.write_text(json.dumps(division))
    with pytest.raises(DataError, match="annotation says"):
        read(name, root, split_file=str(file))


@pytest.mark.parametrize("name", SETS)
def test_missing_data_say_what_to_fetch_and_where(name, tmp_path):
    with pytest.raises(DataError) as caught:
        read(name, tmp_path)
    assert "https://" in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "file", "content", "why"),
    [
        ("ucf101", "ucfTrainTestlist/classInd.txt", "1 YoYo\n", "names 1 classes in 1 lines"),
        ("ucf101", "ucfTrainTestlist/testlist01.txt", "Juggling/v.avi\n", "'Juggling' that there"),
        ("sun397", "ClassName.txt", "", "is empty"),
        ("sun397", "Testing_01.txt", "/a/nowhere/x.jpg\n", "'a/nowhere' that there is not"),
        ("fgvc_aircraft", "variants.txt", "A\nA\n", "expected 100"),
        ("stanford_cars", "devkit/cars_meta.mat", "nothing", "cannot be read"),
    ],
)
def test_a_damaged_annotation_is_refused(name, file, content, why, root, tmp_path):
    folder = SETS[name][2]
    shutil.copytree(root / folder, tmp_path / folder)
    (tmp_path / folder / file).write_text(content)
    with pytest.raises(DataError, match=why):
        read(name, tmp_path)


def test_land_is_divided_anew_by_another_seed(root):
    first, second = (read("eurosat", root, seed=seed) for seed in (0, 1))
    assert np.bincount(first.labels[first.is_test]).tolist() == [1] * 10
    assert (first.is_test != second.is_test).any()
