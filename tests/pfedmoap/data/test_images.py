"""One image file: modes, orientation, and what makes a file unusable."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pfedmoap.data.images import check, decode, to_rgb
from pfedmoap.errors import DataError

RAMP = np.linspace(0, 255, 64).reshape(8, 8).astype(np.uint8)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV"])
def test_every_mode_becomes_rgb(mode) -> None:
    grey = Image.fromarray(RAMP)
    image = grey.convert("RGB").convert(mode) if mode not in ("LA", "PA") else grey.convert(mode)
    result = to_rgb(image)
    assert (result.mode, result.size) == ("RGB", (8, 8))
    if mode != "1":
        assert np.abs(np.asarray(result).mean(axis=2) - RAMP).max() <= 51


def test_transparent_parts_are_white_and_not_the_colour_beneath() -> None:
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 0))
    image.putpixel((1, 0), (255, 0, 0, 255))
    assert np.asarray(to_rgb(image)).tolist() == [[[255, 255, 255], [255, 0, 0]]]


def test_palette_with_transparency(tmp_path) -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 0, 255, 0])
    image.save(tmp_path / "a.png", transparency=bytes([255, 0]))
    assert np.asarray(decode(tmp_path / "a.png")).min() == 255


def test_sixteen_bit_grey_is_scaled_and_not_clipped(tmp_path) -> None:
    Image.fromarray(RAMP.astype(np.uint16) * 257).save(tmp_path / "a.png")
    np.testing.assert_array_equal(np.asarray(decode(tmp_path / "a.png"))[..., 0], RAMP)


def test_floating_point_pixels_are_refused() -> None:
    with pytest.raises(DataError, match="floating point"):
        to_rgb(Image.fromarray(RAMP.astype(np.float32)))


def test_photographs_stand_upright(tmp_path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (20, 10)).save(tmp_path / "a.jpg", exif=exif)
    assert decode(tmp_path / "a.jpg").size == (10, 20)


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "bmp", "tif", "webp"])
def test_truncated_files_are_found_and_whole_ones_pass(tmp_path, suffix) -> None:
    path = tmp_path / f"a.{suffix}"
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    Image.fromarray(noise).save(path)
    assert check(path).problem is None
    assert check(path).size_bytes == path.stat().st_size
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    assert check(path).problem is not None


def test_reasons(tmp_path) -> None:
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("no image at all")
    assert check(tmp_path / "empty.jpg").problem == "the file is empty"
    assert check(tmp_path / "text.jpg").problem == "not an image"
    assert check(tmp_path / "absent.jpg").problem == "no such file or directory"


def test_a_jpeg_of_thousands_of_passes_is_refused_before_it_is_decoded(tmp_path) -> None:
    """A pass over all pixels costs a sender a few bytes, and whoever decodes it a moment each."""
    path = tmp_path / "a.jpg"
    Image.new("RGB", (1000, 1000)).save(path, progressive=True)
    whole = path.read_bytes()
    assert decode(whole).size == (1000, 1000)
    last = whole.rindex(b"\xff\xda")
    path.write_bytes(whole[:-2] + whole[last:-2] * 2000 + whole[-2:])
    for problem in (check(path).problem, refusal(path)):
        assert problem is not None
        assert "a JPEG of 1000000 pixels in so many passes" in problem


def test_only_the_formats_that_are_asked_for(tmp_path) -> None:
    path = tmp_path / "a.gif"
    Image.fromarray(RAMP).save(path)
    assert decode(path, formats=("GIF", "no such format")).size == (8, 8)
    with pytest.raises(DataError, match="in a format that is taken here: PNG"):
        decode(path, formats=("PNG",))
    with pytest.raises(DataError, match="at most 63 are decoded"):
        decode(path, most_pixels=63)


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as refused:
        decode(path)
    return str(refused.value)
