"""One decoder for every way in: the same pixels, and one line for what cannot be decoded."""

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pfedmoap.data.folder import ImageFolder
from pfedmoap.data.images import check, decode
from pfedmoap.errors import DataError

RGB = np.kron(np.random.default_rng(0).integers(0, 255, (6, 4, 3)), np.ones((4, 4, 1)))
RGB = RGB.astype(np.uint8)
GREY = RGB[..., 0]
CUTOUT = np.dstack([RGB, np.where(GREY > 120, 255, 0).astype(np.uint8)])


def _upside_down() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


KINDS = {
    "phone.jpg": (Image.fromarray(RGB), {"exif": _upside_down()}),
    "cutout.png": (Image.fromarray(CUTOUT), {}),
    "xray.png": (Image.fromarray(GREY.astype(np.uint16) * 257), {}),
    "xray.tif": (Image.fromarray(GREY.astype(np.uint16) * 257), {}),
    "print.jpg": (Image.fromarray(RGB).convert("CMYK"), {}),
    "palette.png": (Image.fromarray(RGB).quantize(16), {}),
    "clear.gif": (Image.fromarray(RGB).quantize(16), {"transparency": 3}),
    "grey.png": (Image.fromarray(GREY), {}),
    "grey-clear.png": (Image.fromarray(np.ascontiguousarray(CUTOUT[..., 2:])), {}),
    "ink.png": (Image.fromarray(GREY > 120), {}),
    "film.gif": (
        Image.fromarray(RGB),
        {"save_all": True, "append_images": [Image.fromarray(255 - RGB)], "duration": 50},
    ),
}
PLAIN = ("xray.png", "grey.png", "grey-clear.png", "ink.png", "cutout.png")


@pytest.mark.parametrize("name", KINDS)
def test_every_way_in_gives_the_same_pixels(tmp_path, name) -> None:
    """Training, evaluation and prediction decode paths; others hold bytes, images or arrays."""
    image, options = KINDS[name]
    path = tmp_path / "a" / name
    path.parent.mkdir()
    image.save(path, **options)
    image.save(path.with_stem("again"), **options)
    expected = np.asarray(ImageFolder(str(tmp_path)).read().load(0))
    with Image.open(path) as opened:
        ways = [path, str(path), path.read_bytes(), opened]
        if name in PLAIN:
            ways.append(np.asarray(opened))
        for way in ways:
            np.testing.assert_array_equal(np.asarray(decode(way)), expected)
    wanted = {"phone.jpg": (16, 24, 3)}.get(name, (24, 16, 3))
    assert expected.shape == wanted
    if name in ("cutout.png", "grey-clear.png"):
        assert (expected[GREY <= 120] == 255).all()
    if name.startswith("xray"):
        np.testing.assert_array_equal(expected[..., 0], GREY)
    if name == "film.gif":
        assert np.abs(expected.astype(int) - RGB).mean() < 60  # the first frame, not the inverse


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4)),
        np.zeros((4, 4, 3), np.int64),
        np.zeros((4, 4, 5), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros(4, np.uint8),
    ],
)
def test_arrays_whose_range_nobody_knows_are_refused(array) -> None:
    with pytest.raises(DataError, match="the array has shape"):
        decode(array)


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims a size."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content))
            + kind
            + content
            + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(b"\0" * 100))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


def put_hostile(folder: Path) -> dict[str, str]:
    """Put everything into a folder that looks like an image and is none; returns the reasons."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bomb.png").write_bytes(bomb(60000, 60000))
    (folder / "large.png").write_bytes(bomb(10000, 10000))
    (folder / "text.jpg").write_text("no image")
    (folder / "nothing.png").touch()
    (folder / "link.png").symlink_to("nowhere.png")
    (folder / "loop.png").symlink_to("loop.png")
    os.mkfifo(folder / "pipe.png")
    return {
        "bomb.png": "enormous size",
        "large.png": "enormous size",
        "text.jpg": "not an image",
        "nothing.png": "empty",
        "link.png": "broken link",
        "loop.png": "symbolic links",
        "pipe.png": "no regular file",
    }


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_what_is_no_image_is_one_line_with_the_reason(tmp_path) -> None:
    reasons = put_hostile(tmp_path) | {"absent.png": "no such file", "shelf.png": "it is a folder"}
    (tmp_path / "shelf.png").mkdir()
    for name, reason in reasons.items():
        with pytest.raises(DataError, match=reason) as caught:
            decode(tmp_path / name)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)
        assert reason in str(check(tmp_path / name).problem)
    with pytest.raises(DataError, match=r"\\udcff.png cannot be read"):
        decode(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png"))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_hostile_files_are_left_out_by_name_and_odd_names_are_read(tmp_path, caplog) -> None:
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for number in range(4):
            Image.fromarray(RGB).save(tmp_path / label / f"{number}.png")
    odd = os.fsencode(tmp_path) + b"/cat/caf\xe9.png"
    Path(os.fsdecode(odd)).write_bytes((tmp_path / "cat/0.png").read_bytes())
    reasons = put_hostile(tmp_path / "dog")
    (tmp_path / "dog" / "shelf.png").mkdir()
    data = ImageFolder(str(tmp_path)).read()
    assert len(data) == 9
    assert sum(os.fsencode(path) == odd for path in data.load.paths) == 1
    named = dict(line.removeprefix("dog/").split(": ", 1) for line in data.unreadable)
    assert named.keys() == reasons.keys()
    assert all(reasons[name] in named[name] for name in reasons)
    assert "1 folders hold no image, so that no class comes of them: dog/shelf.png" in caplog.text
    os.rename(tmp_path / "cat", os.fsencode(tmp_path) + b"/caf\xe9")
    with pytest.raises(DataError, match=r"caf\\udce9.* is not UTF-8.*rename it"):
        ImageFolder(str(tmp_path)).read()


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path) -> None:
    (tmp_path / "a").mkdir()
    for number in range(2):
        Image.fromarray(RGB).save(tmp_path / "a" / f"{number}.png")
    data = ImageFolder(str(tmp_path)).read()
    Image.fromarray(255 - RGB).save(tmp_path / "a" / "1.png")
    assert data.load(0).size == (16, 24)
    with pytest.raises(DataError, match=r"1\.png can no longer be used: it has changed"):
        data.load(1)
