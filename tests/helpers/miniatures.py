"""Miniature copies of each published set's layout on disk, as torchvision or a user leaves them."""

import io
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torchvision
from PIL import Image
from scipy.io import savemat

from pfedmoap.data.published import names


def photograph(path: Path, *key: int) -> None:
    """Write a small JPEG whose content depends on ``key``."""
    pixels = np.random.default_rng(key).integers(0, 255, (12, 10, 3)).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "JPEG")
    path.write_bytes(content.getvalue())


def pets(root: Path) -> None:
    lines: dict[str, list[str]] = {"trainval": [], "test": []}
    for label, name in enumerate(names.PETS):
        breed = name.replace(" ", "_")
        for number, division in enumerate(("trainval", "trainval", "test")):
            photograph(root / f"oxford-iiit-pet/images/{breed}_{number}.jpg", label, number)
            lines[division].append(f"{breed}_{number} {label + 1} 1 1")
    for division, text in lines.items():
        path = root / f"oxford-iiit-pet/annotations/{division}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(text) + "\n")


def flowers(root: Path) -> None:
    base = root / "flowers-102"
    count = 3 * len(names.FLOWERS)
    for number in range(count):
        photograph(base / f"jpg/image_{number + 1:05d}.jpg", number)
    ids = np.arange(1, count + 1)
    savemat(base / "imagelabels.mat", {"labels": (ids - 1) // 3 + 1})
    savemat(base / "setid.mat", {"trnid": ids[::3], "valid": ids[1::3], "tstid": ids[2::3]})


def food(root: Path) -> None:
    lists: dict[str, dict[str, list[str]]] = {"train": {}, "test": {}}
    for label, name in enumerate(names.FOODS):
        folder = name.replace(" ", "_")
        for number, division in enumerate(("train", "train", "test")):
            photograph(root / f"food-101/images/{folder}/{number}.jpg", label, number)
            lists[division].setdefault(folder, []).append(f"{folder}/{number}")
    for division, content in lists.items():
        path = root / f"food-101/meta/{division}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))


def textures(root: Path) -> None:
    lines: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for label, name in enumerate(names.TEXTURES):
        for number, division in enumerate(lines):
            file = f"{name}/{name}_{number:04d}.jpg"
            photograph(root / "dtd/dtd/images" / file, label, number)
            lines[division].append(file)
    for division, text in lines.items():
        path = root / f"dtd/dtd/labels/{division}1.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(text) + "\n")


def caltech(root: Path) -> None:
    base = root / "caltech101/101_ObjectCategories"
    for label, folder in enumerate((*names.CALTECH, "Faces_easy", "BACKGROUND_Google")):
        for number in range(1, 4):
            photograph(base / folder / f"image_{number:04d}.jpg", label, number)
    (base / "BACKGROUND_Google/tmp").write_text("left there by the authors")


def cifar(root: Path, monkeypatch: pytest.MonkeyPatch, classes: int) -> None:
    kind = torchvision.datasets.CIFAR10 if classes == 10 else torchvision.datasets.CIFAR100
    texts = names.CIFAR10 if classes == 10 else names.CIFAR100
    key, names_key = ("labels", "label_names")
    if classes == 100:
        key, names_key = ("fine_labels", "fine_label_names")
    base = root / kind.base_folder
    base.mkdir(parents=True)
    rng = np.random.default_rng(classes)

    def write(name: str, content: object) -> list[str]:
        (base / name).write_bytes(pickle.dumps(content))
        return [name, torchvision.datasets.utils.calculate_md5(str(base / name))]

    def batch() -> dict[str, object]:
        pixels = rng.integers(0, 255, (2 * classes, 3072)).astype(np.uint8)
        return {"data": pixels, key: [i % classes for i in range(2 * classes)]}

    monkeypatch.setattr(kind, "train_list", [write(f, batch()) for f, _ in kind.train_list])
    monkeypatch.setattr(kind, "test_list", [write(f, batch()) for f, _ in kind.test_list])
    meta = {names_key: [text.replace(" ", "_") for text in texts]}
    file, md5 = write(kind.meta["filename"], meta)
    monkeypatch.setattr(kind, "meta", {"filename": file, "key": names_key, "md5": md5})


LAYOUTS: dict[str, Callable[[Path], None]] = {
    "oxford_pets": pets,
    "flowers102": flowers,
    "food101": food,
    "dtd": textures,
    "caltech101": caltech,
}


@pytest.fixture(scope="session")
def complete_root(tmp_path_factory) -> Path:
    """All five photograph sets, never to be changed by a test."""
    root = tmp_path_factory.mktemp("photographs")
    for write in LAYOUTS.values():
        write(root)
    return root


@pytest.fixture(autouse=True)
def accept_our_flowers(monkeypatch: pytest.MonkeyPatch, request) -> None:
    """Let torchvision compare its checksums with those of the miniature's two annotation files."""
    if "complete_root" not in request.fixturenames:
        return
    base = request.getfixturevalue("complete_root") / "flowers-102"
    sums = {
        file: torchvision.datasets.utils.calculate_md5(str(base / file))
        for file in ("imagelabels.mat", "setid.mat")
    }
    module = torchvision.datasets.flowers102
    check = module.check_integrity

    def ours(path: str | Path, md5: str | None = None) -> bool:
        return check(path, sums.get(Path(path).name, md5))

    monkeypatch.setattr(module, "check_integrity", ours)


@pytest.fixture
def copied_root(complete_root, tmp_path) -> Callable[[str], Path]:
    """Copy one of the sets, to damage it."""

    def copy(folder: str) -> Path:
        shutil.copytree(complete_root / folder, tmp_path / folder)
        return tmp_path

    return copy
