"""The domain sets in their trees: names stand at their own labels, whatever the folders' order."""

import logging
import shutil

import numpy as np
import pytest

from pfedmoap.data.dirichlet import DomainDirichlet
from pfedmoap.data.published.catalogue import READERS
from pfedmoap.data.published.domain_trees import (
    DOMAINNET,
    OFFICE31,
    OFFICE_CALTECH10,
    OFFICE_HOME,
    PACS,
)
from pfedmoap.errors import DataError
from tests.helpers.miniatures import photograph

TREES = {
    "domainnet": DOMAINNET,
    "office_caltech10": OFFICE_CALTECH10,
    "pacs": PACS,
    "office31": OFFICE31,
    "office_home": OFFICE_HOME,
}
CLASSES = {"domainnet": 10, "office_caltech10": 10, "pacs": 7, "office31": 31, "office_home": 65}
DRAWN = {"division": "drawn"}


def write(tree, root, each=3, between="") -> None:
    for number, folders in enumerate(tree.domains.values()):
        for label, (folder, *_) in enumerate(tree.classes.values()):
            for image in range(each):
                photograph(
                    root / folders[0] / between / folder / f"frame_{image:04d}.jpg",
                    number,
                    label,
                    image,
                )


def options(name):
    return DRAWN if name == "domainnet" else {}


@pytest.mark.parametrize("name", TREES)
def test_reads_the_tree_by_name(name, tmp_path) -> None:
    tree = TREES[name]
    write(tree, tmp_path, each=2)
    dataset = READERS[name](root=str(tmp_path), **options(name)).read()
    assert len(dataset.class_names) == CLASSES[name]
    assert dataset.domain_names == tuple(tree.domains)
    assert len(dataset) == 2 * CLASSES[name] * len(tree.domains)
    assert dataset.is_test.sum() == len(dataset) // 2
    rows = zip(dataset.load.paths, dataset.labels, dataset.domains, strict=True)
    for path, label, domain in rows:
        assert path.parent.name in tree.classes[dataset.class_names[label]]
        assert path.parent.parent.name in tree.domains[dataset.domain_names[domain]]


def test_other_classes_of_domainnet_are_left_alone(tmp_path) -> None:
    write(DOMAINNET, tmp_path, each=2)
    photograph(tmp_path / "clipart/aircraft_carrier/clipart_001_000001.jpg", 1)
    dataset = READERS["domainnet"](root=str(tmp_path), **DRAWN).read()
    assert len(dataset) == 120
    assert "aircraft carrier" not in dataset.class_names


def test_domainnet_follows_its_official_lists(tmp_path) -> None:
    write(DOMAINNET, tmp_path, each=3)
    (tmp_path / "splits").mkdir()
    for domain in DOMAINNET.domains:
        for division, images in (("train", (0, 2)), ("test", (1,))):
            lines = [
                f"{domain}/{folder[0]}/frame_{image:04d}.jpg {40 + label}"
                for label, folder in enumerate(DOMAINNET.classes.values())
                for image in images
            ]
            lines.append(f"{domain}/aircraft_carrier/{domain}_1.jpg 0")
            (tmp_path / f"splits/{domain}_{division}.txt").write_text("\n".join(lines) + "\n")
    dataset = READERS["domainnet"](root=str(tmp_path)).read()
    assert len(dataset) == 180
    assert {p.name for p in np.array(dataset.load.paths)[dataset.is_test]} == {"frame_0001.jpg"}
    (tmp_path / "splits/real_test.txt").unlink()
    with pytest.raises(DataError, match=r"no list real_test\.txt"):
        READERS["domainnet"](root=str(tmp_path)).read()


def test_office31_may_keep_its_images_folder(tmp_path) -> None:
    write(OFFICE31, tmp_path, each=2, between="images")
    assert len(READERS["office31"](root=str(tmp_path)).read()) == 2 * 31 * 3


def test_five_clients_a_domain_have_one_domain_each(tmp_path) -> None:
    write(OFFICE_CALTECH10, tmp_path, each=12)
    dataset = READERS["office_caltech10"](root=str(tmp_path)).read()
    splits = DomainDirichlet(5, 0.3).split(dataset, np.flatnonzero(~dataset.is_test), 0)
    assert len(splits) == 20
    for client, split in enumerate(splits):
        assert set(dataset.domains[split.train]) == {client // 5}


@pytest.mark.parametrize("name", TREES)
def test_missing_data_say_what_to_get_and_where(name, tmp_path) -> None:
    root = tmp_path / "nothing"
    with pytest.raises(DataError) as caught:
        READERS[name](root=str(root), **options(name)).read()
    assert "https://" in str(caught.value)
    assert str(root) in str(caught.value)


def test_a_missing_domain_class_or_image_is_named(tmp_path) -> None:
    write(PACS, tmp_path, each=2)
    reader = READERS["pacs"](root=str(tmp_path))
    (tmp_path / "sketch/dog/frame_0000.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"1 empty:\n  sketch/dog/frame_0000\.jpg"):
        reader.read()
    shutil.rmtree(tmp_path / "sketch/dog")
    with pytest.raises(DataError, match="has no folder dog for class 'dog'"):
        reader.read()
    shutil.rmtree(tmp_path / "sketch")
    with pytest.raises(DataError, match="has no folder sketch for domain 'sketch'"):
        reader.read()


def test_one_class_under_two_names_is_refused(tmp_path) -> None:
    write(OFFICE_CALTECH10, tmp_path, each=2)
    photograph(tmp_path / "dslr/backpack/frame_0000.jpg", 9)
    with pytest.raises(DataError, match="back_pack and backpack for the one class 'backpack'"):
        READERS["office_caltech10"](root=str(tmp_path)).read()


def test_copies_across_the_division_are_reported(tmp_path, caplog) -> None:
    write(PACS, tmp_path, each=2)
    folder = tmp_path / "photo/house"
    (folder / "frame_0001.jpg").write_bytes((folder / "frame_0000.jpg").read_bytes())
    with caplog.at_level(logging.WARNING):
        READERS["pacs"](root=str(tmp_path)).read()
    assert "byte for byte the same" in caplog.text
