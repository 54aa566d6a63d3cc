"""Miniature copies of the sets that CoOp lays out by hand, with all of their classes."""

import io
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

from pfedmoap.data.published import names

KINDS = tuple(f"/{'abc'[i % 3]}/place_{i}{'/indoor' if i % 50 == 0 else ''}" for i in range(397))
ACTIONS = (
    "ApplyEyeMakeup",
    "YoYo",
    *(f"Action{chr(65 + i // 26)}{chr(97 + i % 26)}" for i in range(99)),
)
WORDNET = tuple(f"n{i:08d}" for i in range(1000))


@cache
def jpeg() -> bytes:
    content = io.BytesIO()
    Image.fromarray(np.zeros((12, 10, 3), np.uint8)).save(content, "JPEG")
    return content.getvalue()


def photograph(path: Path, *key: object) -> None:
    """Write a small JPEG; ``key`` stands behind its end, where decoders do not look."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(jpeg() + repr(key).encode())


def lines(path: Path, text: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(text) + "\n")


def cars(root: Path) -> None:
    base = root / "stanford_cars"
    (base / "devkit").mkdir(parents=True)
    made = [f"Maker Model {i} Sedan {1990 + i % 20}" for i in range(196)]
    savemat(base / "devkit/cars_meta.mat", {"class_names": np.array(made, dtype=object)})
    kind = [("bbox_x1", "u1"), ("class", "u1"), ("fname", "O")]
    for part, file in (
        ("train", "devkit/cars_train_annos.mat"),
        ("test", "cars_test_annos_withlabels.mat"),
    ):
        rows = np.array([(0, i + 1, f"{i + 1:05d}.jpg") for i in range(196)], dtype=kind)
        savemat(base / file, {"annotations": rows})
        for i in range(196):
            photograph(base / f"cars_{part}/{i + 1:05d}.jpg", part, i)


def aircraft(root: Path, folder: str = "fgvc_aircraft") -> None:
    base = root / folder
    variants = [f"70{i}-{i % 3}00 Jet" for i in range(100)]
    lines(base / "variants.txt", variants)
    for number, part in enumerate(("train", "val", "test")):
        rows = [f"{number}{i:06d} {variant}" for i, variant in enumerate(variants)]
        lines(base / f"images_variant_{part}.txt", rows)
        for row in rows:
            photograph(base / f"images/{row.split()[0]}.jpg", row)


def eurosat(root: Path) -> None:
    for kind in names.EUROSAT:
        for number in range(1, 5):
            photograph(root / f"eurosat/2750/{kind}/{kind}_{number}.jpg", kind, number)


def sun397(root: Path) -> None:
    base = root / "sun397"
    lines(base / "ClassName.txt", [*KINDS])
    for part in ("Training", "Testing"):
        rows = [f"{kind}/sun_{part.lower()}.jpg" for kind in KINDS]
        lines(base / f"{part}_01.txt", rows)
        for row in rows:
            photograph(base / f"SUN397{row}", row)


def ucf101(root: Path) -> None:
    base = root / "ucf101"
    lines(base / "ucfTrainTestlist/classInd.txt", [f"{i + 1} {a}" for i, a in enumerate(ACTIONS)])
    for part in ("train", "test"):
        rows = []
        for number, action in enumerate(ACTIONS):
            video = f"v_{action}_g0{part == 'test':d}_c01"
            rows.append(f"{action}/{video}.avi" + (f" {number + 1}" if part == "train" else ""))
            place = {"ApplyEyeMakeup": "Apply_Eye_Makeup", "YoYo": "Yo_Yo"}.get(
                action, f"Action_{action.removeprefix('Action')}"
            )
            photograph(base / f"UCF-101-midframes/{place}/{video}.jpg", part, action)
        lines(base / f"ucfTrainTestlist/{part}list01.txt", rows)


def classnames(folder: Path) -> None:
    words = [f"thing {i}" for i in range(1000)]
    words[7] = words[3]
    lines(folder / "classnames.txt", [f"{w} {n}" for w, n in zip(WORDNET, words, strict=True)])


def imagenet(root: Path) -> None:
    classnames(root / "imagenet")
    for kind in WORDNET:
        photograph(root / f"imagenet/images/train/{kind}/{kind}_1.JPEG", kind, "train")
        photograph(root / f"imagenet/images/val/{kind}/ILSVRC2012_val_1.JPEG", kind, "val")


def imagenetv2(root: Path) -> None:
    classnames(root / "imagenetv2")
    for label in range(1000):
        inside = f"imagenetv2/imagenetv2-matched-frequency-format-val/{label}"
        photograph(root / inside / "image.jpeg", label)


def sketch(root: Path) -> None:
    classnames(root / "imagenet-sketch")
    for kind in WORDNET:
        photograph(root / f"imagenet-sketch/images/{kind}/sketch_1.JPEG", kind)


def hard(root: Path, outer: str = "imagenet-adversarial", inside: str = "imagenet-a") -> None:
    classnames(root / outer)
    for kind in WORDNET[::5]:
        photograph(root / outer / inside / kind / "image.jpg", kind)
    (root / outer / inside / "README.txt").write_text("left there by the authors")


def renditions(root: Path) -> None:
    hard(root, "imagenet-rendition", "imagenet-r")
