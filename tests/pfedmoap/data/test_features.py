"""The feature cache: right values, keys that notice changes, whole files under any interruption."""

import dataclasses
import json
import logging
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from pfedmoap.data.dataset import ImageDataset
from pfedmoap.data.feature_store import EntryWriter, cache_folder
from pfedmoap.data.features import cached_features
from pfedmoap.errors import BackboneError, DataError, StorageError
from pfedmoap.models.clip.preprocessing import Preprocessing
from pfedmoap.seeding import generator, numpy_generator
from tests.helpers.places import ROOT

SMALL = Preprocessing(size=8, mean=(0.5, 0.5, 0.5), std=(0.3, 0.3, 0.3))


class TinyBackbone:
    """A random linear map as a backbone; counts the images that it encodes."""

    def __init__(self, seed: int = 0, preprocessing: Preprocessing = SMALL) -> None:
        self.device = torch.device("cpu")
        self.fingerprint = f"tiny {seed}"
        self.preprocessing = preprocessing
        size = 3 * preprocessing.size**2
        self.weights = torch.randn(size, 5, generator=generator(seed, "weights"))
        self.encoded = 0
        self.fails_after = 10**9

    def features(self, images: Tensor, kinds: tuple[str, ...]) -> dict[str, Tensor]:
        self.encoded += len(images)
        if self.encoded > self.fails_after:
            raise KeyboardInterrupt
        image = torch.nn.functional.normalize(images.flatten(1) @ self.weights, dim=-1)
        both = {"image": image, "patches": torch.stack([image, -image], dim=1)}
        return {kind: both[kind] for kind in kinds if kind in both}


def entries(cache: Path) -> list[Path]:
    return sorted(cache.iterdir())


def test_values_are_those_of_one_image_at_a_time(make_dataset, tmp_path) -> None:
    dataset, backbone = make_dataset(), TinyBackbone()
    table = cached_features(dataset, backbone, tmp_path, kinds=("image", "patches"), batch_size=7)
    assert table.centre().shape == (36, 5)
    assert table.centre("patches").shape == (36, 2, 5)
    assert table.train_views().shape == (36, 1, 5)
    for index in range(len(dataset)):
        alone = SMALL.centre(dataset.load(index))[None]
        expected = backbone.features(alone, ("image",))["image"][0]
        np.testing.assert_allclose(table.centre()[index], expected, atol=1e-6)
        np.testing.assert_array_equal(table.train_views()[index, 0], table.centre()[index])


def test_arrays_are_mapped_float32_and_read_only(make_dataset, tmp_path) -> None:
    centre = cached_features(make_dataset(), TinyBackbone(), tmp_path).centre()
    assert isinstance(centre, np.memmap)
    assert centre.dtype == np.float32
    with pytest.raises(ValueError, match="read-only"):
        centre[0] = 0


def test_views_of_training_images_depend_on_image_view_and_seed_only(
    make_dataset, tmp_path
) -> None:
    dataset, backbone = make_dataset(), TinyBackbone()
    table = cached_features(dataset, backbone, tmp_path / "a", views=3, batch_size=5, seed=0)
    views = table.train_views()
    assert views.shape == (36, 3, 5)
    assert np.isnan(views[dataset.is_test]).all()
    assert np.isfinite(table.centre()).all()
    for index in np.flatnonzero(~dataset.is_test)[:6]:
        for view in range(3):
            rng = numpy_generator(0, "augmentation", int(index), view)
            one = SMALL.augmented(dataset.load(int(index)), rng)[None]
            expected = backbone.features(one, ("image",))["image"][0]
            np.testing.assert_allclose(views[index, view], expected, atol=1e-6)
    more = cached_features(dataset, backbone, tmp_path / "b", views=4, batch_size=64, seed=0)
    np.testing.assert_allclose(more.train_views()[:, :3], views, atol=1e-6)


def test_second_call_computes_nothing(make_dataset, tmp_path) -> None:
    dataset = make_dataset()
    cached_features(dataset, TinyBackbone(), tmp_path, views=2)
    again = TinyBackbone()
    cached_features(dataset, again, tmp_path, views=2)
    assert again.encoded == 0
    cached_features(dataset, again, tmp_path, kinds=("image", "patches"), views=2)
    assert again.encoded == 36 + 2 * 24


def test_key_changes_with_weights_preprocessing_data_and_views(make_dataset, tmp_path) -> None:
    dataset = make_dataset()
    other_data = dataclasses.replace(dataset, fingerprint="other")
    bright = dataclasses.replace(SMALL, mean=(0.1, 0.1, 0.1))
    cached_features(dataset, TinyBackbone(), tmp_path)
    for number, (data, backbone) in enumerate(
        [
            (dataset, TinyBackbone(seed=1)),
            (dataset, TinyBackbone(preprocessing=bright)),
            (other_data, TinyBackbone()),
        ],
        start=2,
    ):
        cached_features(data, backbone, tmp_path)
        assert backbone.encoded == 36
        assert len(entries(tmp_path)) == number


def test_key_of_views_has_seed_and_division_and_seed_zero_is_a_seed(make_dataset, tmp_path) -> None:
    dataset = make_dataset()
    moved = dataclasses.replace(dataset, is_test=np.roll(dataset.is_test, 1))
    for data, views, seed in [(dataset, 1, 0), (dataset, 1, 1), (dataset, 2, 0), (moved, 1, 0)]:
        cached_features(data, TinyBackbone(), tmp_path, views=views, seed=seed)
    assert len(entries(tmp_path)) == 1 + 4


def test_interrupted_write_leaves_nothing_behind(make_dataset, tmp_path) -> None:
    dataset, backbone = make_dataset(), TinyBackbone()
    backbone.fails_after = 20
    with pytest.raises(KeyboardInterrupt):
        cached_features(dataset, backbone, tmp_path, batch_size=8)
    assert entries(tmp_path) == []
    assert np.isfinite(cached_features(dataset, TinyBackbone(), tmp_path).centre()).all()


def test_what_a_killed_run_left_is_never_read(make_dataset, tmp_path) -> None:
    left = tmp_path / ("unfinished-" + "0" * 32)
    left.mkdir()
    (left / "features.npy").write_bytes(b"partial")
    backbone = TinyBackbone()
    cached_features(make_dataset(), backbone, tmp_path)
    assert backbone.encoded == 36
    assert len(entries(tmp_path)) == 2


def test_only_our_abandoned_folders_are_removed(make_dataset, tmp_path) -> None:
    """Also from a folder that people use for other things, and never through a link."""
    old = 1e9  # years ago
    ours = tmp_path / ("unfinished-" + "a" * 32)
    mixed = tmp_path / ("unfinished-" + "b" * 32)
    thesis = tmp_path / "unfinished-thesis"
    home = tmp_path / "home"
    linked = tmp_path / ("unfinished-" + "c" * 32)
    for file in (ours / "features.npy", mixed / "notes.txt", thesis / "a.tex", home / "entry.json"):
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"x")
    linked.symlink_to(home)
    for folder in (ours, mixed, thesis, home):
        os.utime(folder, (old, old))
    cached_features(make_dataset(), TinyBackbone(), tmp_path)
    assert not ours.exists()
    assert (mixed / "notes.txt").exists()
    assert (thesis / "a.tex").exists()
    assert (home / "entry.json").exists()
    assert linked.is_symlink()


def test_an_entry_with_other_peoples_files_is_left_as_it_is(make_dataset, tmp_path) -> None:
    cached_features(make_dataset(), TinyBackbone(), tmp_path)
    for entry in entries(tmp_path):
        (entry / "features.npy").write_bytes(b"damaged")
        (entry / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="holds more than stored features"):
        cached_features(make_dataset(), TinyBackbone(), tmp_path)
    assert all((entry / "notes.txt").exists() for entry in entries(tmp_path))


def truncate(entry: Path) -> None:
    content = (entry / "features.npy").read_bytes()
    (entry / "features.npy").write_bytes(content[:-64])


def empty(entry: Path) -> None:
    (entry / "features.npy").write_bytes(b"")


def lose_pages(entry: Path) -> None:
    array = np.load(entry / "features.npy", mmap_mode="r+")
    array[10:] = 0
    array.flush()


def spoil_description(entry: Path) -> None:
    (entry / "entry.json").write_text('{"key": ')


def strip_description(entry: Path) -> None:
    (entry / "entry.json").write_text("[]")


def remove_description(entry: Path) -> None:
    (entry / "entry.json").unlink()


def remove_array(entry: Path) -> None:
    (entry / "features.npy").unlink()


@pytest.mark.parametrize(
    "damage",
    [
        truncate,
        empty,
        lose_pages,
        remove_array,
        spoil_description,
        strip_description,
        remove_description,
    ],
)
def test_damaged_entry_is_computed_again_with_a_warning(
    make_dataset, tmp_path, caplog, damage
) -> None:
    dataset = make_dataset()
    before = np.array(cached_features(dataset, TinyBackbone(), tmp_path).centre())
    (entry,) = entries(tmp_path)
    damage(entry)
    with caplog.at_level(logging.WARNING):
        after = cached_features(dataset, TinyBackbone(), tmp_path).centre()
    np.testing.assert_allclose(after, before, atol=1e-6)
    assert "damaged and computed again" in caplog.text
    assert entries(tmp_path) == [entry]
    described = json.loads((entry / "entry.json").read_text())
    assert described["shape"] == [36, 1, 5]
    assert described["about"]["dataset"] == "toy"


def write_with_another(cache: Path, mine: Path, other: Path) -> tuple[int, float]:
    """Wait for the other process, then fill the same cache; give a sum over what was read back."""
    is_test = np.arange(800) % 3 == 0
    grey = np.random.default_rng(0).integers(0, 255, (800, 9, 9)).astype(np.uint8)
    dataset = ImageDataset(
        name="grey",
        class_names=("one",),
        labels=np.zeros(800, dtype=np.int64),
        is_test=is_test,
        load=lambda index: Image.fromarray(grey[index]).convert("RGB"),
        fingerprint="grey",
    )
    backbone = TinyBackbone()
    mine.touch()
    while not other.exists():
        time.sleep(0.005)
    table = cached_features(dataset, backbone, cache, views=1, progress=False)
    assert np.isfinite(table.centre()).all()
    assert np.isfinite(table.train_views()[~is_test]).all()
    return backbone.encoded, float(np.abs(table.centre()).sum())


def test_two_processes_write_at_the_same_time(tmp_path) -> None:
    cache, one, two = tmp_path / "cache", tmp_path / "one", tmp_path / "two"
    code = (
        "import runpy, sys; from pathlib import Path; "
        "write = runpy.run_path(sys.argv[1])['write_with_another']; "
        "print(*write(*map(Path, sys.argv[2:])))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, __file__, str(cache), str(two), str(one)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    while not two.exists() and process.poll() is None:
        time.sleep(0.01)
    assert process.poll() is None, process.communicate()
    encoded, total = write_with_another(cache, one, two)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    assert encoded > 0
    assert int(output.split()[0]) > 0
    assert float(output.split()[1]) == pytest.approx(total, rel=1e-6)
    assert len(entries(cache)) == 2
    assert not list(cache.glob("unfinished-*"))


def test_many_writers_repair_a_damaged_entry_at_the_same_time(make_dataset, tmp_path) -> None:
    dataset = make_dataset()
    expected = np.array(cached_features(dataset, TinyBackbone(), tmp_path).centre())
    (entry,) = entries(tmp_path)

    def read(_: int) -> bool:
        centre = cached_features(dataset, TinyBackbone(), tmp_path, progress=False).centre()
        return np.allclose(centre, expected, atol=1e-6)

    with ThreadPoolExecutor(6) as pool:
        for damage in (truncate, remove_description, remove_array, lose_pages) * 5:
            damage(entry)
            assert all(pool.map(read, range(6)))
            assert entries(tmp_path) == [entry]


def test_features_that_are_not_finite_name_the_image(make_dataset, tmp_path) -> None:
    backbone = TinyBackbone()
    original = backbone.features

    def spoiled(images, kinds):
        features = original(images, kinds)
        if backbone.encoded > 10:
            features["image"][11 - (backbone.encoded - len(images)), 2] = float("nan")
        return features

    backbone.features = spoiled
    with pytest.raises(BackboneError, match="of image 11 of data set 'toy' are not finite"):
        cached_features(make_dataset(), backbone, tmp_path, batch_size=10)
    assert entries(tmp_path) == []


def test_unknown_kind(make_dataset, tmp_path) -> None:
    with pytest.raises(BackboneError, match="no features of kind"):
        cached_features(make_dataset(), TinyBackbone(), tmp_path, kinds=("sound",))
    table = cached_features(make_dataset(), TinyBackbone(), tmp_path)
    with pytest.raises(DataError, match=r"only of \['image'\]"):
        table.centre("patches")


def test_an_image_that_vanished_is_named(make_dataset, tmp_path) -> None:
    dataset = make_dataset()

    def load(index):
        if index == 17:
            raise FileNotFoundError("gone")
        return dataset.load(index)

    broken = dataclasses.replace(dataset, load=load)
    with pytest.raises(DataError, match="image 17 of data set 'toy' can no longer be read: gone"):
        cached_features(broken, TinyBackbone(), tmp_path)


@pytest.mark.parametrize("options", [{"views": -1}, {"batch_size": 0}, {"kinds": ()}])
def test_arguments_out_of_range(make_dataset, tmp_path, options) -> None:
    with pytest.raises(DataError, match="expected views of at least 0"):
        cached_features(make_dataset(), TinyBackbone(), tmp_path, **options)


def test_bar_is_shown_on_a_terminal_only(make_dataset, tmp_path, capsys, monkeypatch) -> None:
    cached_features(make_dataset(), TinyBackbone(), tmp_path / "a")
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("FORCE_COLOR", "1")
    cached_features(make_dataset(), TinyBackbone(), tmp_path / "b")
    captured = capsys.readouterr()
    assert "features of toy" in captured.err
    assert captured.out == ""
    cached_features(make_dataset(), TinyBackbone(), tmp_path / "c", progress=False)
    assert capsys.readouterr().err == ""


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps other permissions")
def test_what_is_stored_is_for_its_owner_alone(make_dataset, tmp_path, caplog) -> None:
    """Features are encoded images, and a cache is often in a folder that others may enter."""
    umask = os.umask(0)
    try:
        cache = tmp_path / "made" / "cache"
        cached_features(make_dataset(), TinyBackbone(), cache, views=1, kinds=("image", "patches"))
    finally:
        os.umask(umask)
    found = {path: path.stat().st_mode & 0o777 for path in (cache.parent, *cache.parent.rglob("*"))}
    assert len(found) == 2 + 4 * 3
    for path, mode in found.items():
        assert mode == (0o700 if path.is_dir() else 0o600), path
    cached_features(make_dataset(), TinyBackbone(), cache)
    assert not caplog.records
    for entry in entries(cache):
        entry.chmod(0o755)
    cached_features(make_dataset(), TinyBackbone(), cache)
    assert "can be read by other users" in caplog.text


def test_a_cache_that_cannot_be_used_names_the_option(tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("a file")
    writer = EntryWriter(tmp_path / "cache" / ("0" * 32), "key", (1, 1), {})
    with pytest.raises(StorageError, match=r"cache cannot be used .*--features\.cache"), writer:
        pass

    def no_home(_):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", no_home)
    with pytest.raises(StorageError, match=r"name a folder with --features\.cache"):
        cache_folder("~/.cache/pfedmoap")


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_fills_is_not(tmp_path):
    dead, other = (tmp_path / f"unfinished-{digit * 32}" for digit in "01")
    with EntryWriter(tmp_path / ("2" * 32), "key", (1, 1), {}) as living:
        for folder in (dead, other, living.unfinished):
            folder.mkdir(exist_ok=True)
            os.utime(folder, (0, time.time() - 3600))
        os.utime(other)  # is perhaps being made just now
        with EntryWriter(tmp_path / ("3" * 32), "key", (1, 1), {}):
            assert not dead.exists()
            assert other.exists()
            assert living.unfinished.exists()
