"""Files of a listing: whatever Pillow opens is read, and a pipe is not waited for."""

import os

import numpy as np
import pytest
from PIL import Image

from pfedmoap.data.published.files import Description, ListedImage, dataset_of_files
from pfedmoap.errors import DataError

ABOUT = Description("listed", ("cat",), ("{}",), "Get it again.")


def test_files_are_known_by_what_pillow_opens_and_by_name(tmp_path) -> None:
    Image.init()
    wanted = {"a.avif": "AVIF", "b.jfif": "JPEG", "c.jp2": "JPEG2000"}
    kinds = {name: kind for name, kind in wanted.items() if kind in Image.SAVE}  # AVIF since 11.3
    assert len(kinds) >= 2
    for name, kind in kinds.items():
        noise = np.random.default_rng(len(kind)).integers(0, 255, (16, 16, 3))
        Image.fromarray(noise.astype(np.uint8)).save(tmp_path / name, kind)
    images = [ListedImage(name, 0, name == "c.jp2") for name in kinds]
    data = dataset_of_files(tmp_path, images, ABOUT)
    assert [data.load(i).size for i in range(len(kinds))] == [(16, 16)] * len(kinds)
    assert data.inventory is not None
    assert [one.name for one in data.inventory.files] == [*kinds]
    assert all(one.digest.startswith("ends-") for one in data.inventory.files)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path) -> None:
    os.mkfifo(tmp_path / "a.png")
    Image.new("RGB", (4, 4)).save(tmp_path / "b.png")
    images = [ListedImage("a.png", 0, False), ListedImage("b.png", 0, True)]
    with pytest.raises(DataError, match=r"a.png: no regular file\nGet it again"):
        dataset_of_files(tmp_path, images, ABOUT)
