"""Measure images a second from JPEG files to features: the whole job, and its two halves alone.

The plain way decodes and encodes one image after the other, as a client does that classifies
photographs; the job decodes in threads, copies beside the encoding, and encodes as many at once as
the device holds. Both give the features of the same files, which are compared.
"""

import json
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Literal

import numpy as np
import torch
from PIL import Image

from pfedmoap.data.features import cached_features
from pfedmoap.data.folder import ImageFolder
from pfedmoap.models.clip.clip import FrozenCLIP
from pfedmoap.models.loading import BackboneOptions

_TOLERANCE = {"fp32": 1e-4, "bf16": 2e-2, "fp16": 2e-2}  # of unit-norm features
_ONE_BY_ONE = 16  # images of the plain way
_ALONE = 500  # that are decoded alone, at most
_DISTINCT = 2000  # files, of which further ones are links: writing them takes longer than the job


def main(
    images: int = 200,
    model: str = "ViT-S-32-alt",
    size: int = 400,
    batch_size: int = 64,
    precision: Literal["fp32", "bf16", "fp16"] = "fp32",
    threads: int = 1,
    device: str = "auto",
    json_file: str | None = None,
) -> None:
    """Print images a second.

    Args:
        images: Files, photographs' size made of smooth noise.
        model: An open_clip architecture; with random weights.
        size: Pixels of a side.
        batch_size: Images encoded at a time on a CPU.
        precision: Number format of the towers.
        threads: CPU threads of the encoder.
        device: Where to encode.
        json_file: Where rows are written, too.
    """
    torch.set_num_threads(threads)
    clip = BackboneOptions(model, "random", precision, device).load()
    with tempfile.TemporaryDirectory() as folder:
        _write_photographs(Path(folder) / "photographs", images, size)
        dataset = ImageFolder(str(Path(folder) / "photographs")).read()
        _one(clip, dataset.load(0))  # what is set up once
        seconds = perf_counter()
        plain = torch.cat([_one(clip, dataset.load(at)) for at in range(min(_ONE_BY_ONE, images))])
        one_by_one = (perf_counter() - seconds) / len(plain)
        seconds = perf_counter()
        some = min(images, _ALONE)
        decoded = [clip.preprocessing.centre(dataset.load(at)) for at in range(some)]
        decoding = (perf_counter() - seconds) / some
        batch = torch.stack((decoded * batch_size)[:batch_size])
        if clip.device.type == "cuda":
            batch = batch.repeat(4, 1, 1, 1).to(clip.device)  # there, and enough to keep it busy
        clip.image_features(batch)
        _wait(clip)
        seconds = perf_counter()
        turns = max(1, min(images, 20 * len(batch)) // len(batch))
        for _ in range(turns):
            clip.image_features(batch)
        _wait(clip)
        encoding = (perf_counter() - seconds) / (turns * len(batch))
        cache = Path(folder) / "cache"
        seconds = perf_counter()
        table = cached_features(dataset, clip, cache, batch_size=batch_size, progress=False)
        job = (perf_counter() - seconds) / images
        found = torch.from_numpy(np.array(table.centre()[: len(plain)]))
        gap = float((found - plain).abs().max())
    if gap > _TOLERANCE[precision]:
        raise SystemExit(f"the two ways disagree by {gap:.1e} on features of unit norm")
    rows = [
        {
            "images": images,
            "model": f"{model}, {precision}, {clip.device}",
            "decoding alone / s": f"{1 / decoding:.0f}",
            "tower alone / s": f"{1 / encoding:.0f}",
            "one by one / s": f"{1 / one_by_one:.0f}",
            "job / s": f"{1 / job:.0f}",
            "ratio": f"{one_by_one / job:.2f}",
            "largest difference": f"{gap:.1e}",
        }
    ]
    for row in rows:
        print("; ".join(f"{name}: {value}" for name, value in row.items()))
    print("decoding alone is of one thread; the job's threads are as many as there are cores")
    if json_file is not None:
        Path(json_file).write_text(json.dumps(rows))


def _one(clip: FrozenCLIP, image: Image.Image) -> torch.Tensor:
    return clip.image_features(clip.preprocessing.centre(image)[None]).float().cpu()


def _write_photographs(root: Path, count: int, size: int) -> None:
    """Write smooth noise, which compresses about as photographs do, in two classes."""
    draws = np.random.default_rng(0)
    for at in range(count):
        folder = root / f"class {at % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        if at >= _DISTINCT:
            (folder / f"{at}.jpg").hardlink_to(folder / f"{at % _DISTINCT}.jpg")
            continue
        coarse = Image.fromarray(draws.integers(0, 256, (size // 16, size // 16, 3), np.uint8))
        coarse.resize((size, size), Image.Resampling.BICUBIC).save(folder / f"{at}.jpg")


def _wait(clip: FrozenCLIP) -> None:
    if clip.device.type == "cuda":
        torch.cuda.synchronize()
