"""CIFAR as torchvision unpacks it, with its checksums."""

import numpy as np
import pytest

from pfedmoap.data.dirichlet import Dirichlet
from pfedmoap.data.few_shot import few_shot
from pfedmoap.data.published import names
from pfedmoap.data.published.catalogue import READERS
from pfedmoap.errors import DataError
from tests.helpers.miniatures import cifar


@pytest.mark.parametrize("classes", [10, 100])
def test_reads_what_torchvision_unpacks(classes, tmp_path, monkeypatch) -> None:
    cifar(tmp_path, monkeypatch, classes)
    dataset = READERS[f"cifar{classes}"](root=str(tmp_path)).read()
    assert dataset.class_names == (names.CIFAR10 if classes == 10 else names.CIFAR100)
    batches = 5 if classes == 10 else 1
    assert (~dataset.is_test).sum() == 2 * classes * batches
    assert dataset.is_test.sum() == 2 * classes
    assert dataset.load(0).size == (32, 32)
    assert len(dataset.templates) == 18
    if classes == 100:
        groups = np.bincount(dataset.superclasses)
        assert groups.tolist() == [5] * 20
        by_name = dict(zip(dataset.class_names, dataset.superclasses, strict=True))
        assert by_name["seal"] == by_name["whale"] != by_name["shark"]
    else:
        assert dataset.superclasses is None


def test_test_images_follow_the_training_proportions(tmp_path, monkeypatch) -> None:
    cifar(tmp_path, monkeypatch, 10)
    dataset = READERS["cifar10"](root=str(tmp_path)).read()
    splits = Dirichlet(4, 0.5).split(dataset, few_shot(dataset, None, 0), 0)
    for split in splits:
        held = np.bincount(dataset.labels[split.train], minlength=10)
        tested = np.bincount(dataset.labels[split.test], minlength=10)
        assert (np.abs(tested - held * 2 / 10) < 1).all()


def test_a_changed_batch_is_refused(tmp_path, monkeypatch) -> None:
    cifar(tmp_path, monkeypatch, 10)
    path = tmp_path / "cifar-10-batches-py/data_batch_3"
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match="corrupted"):
        READERS["cifar10"](root=str(tmp_path)).read()


def test_missing_data_say_what_to_download(tmp_path) -> None:
    with pytest.raises(DataError, match=r"datasets\.CIFAR100\('.*', download=True\)"):
        READERS["cifar100"](root=str(tmp_path)).read()
