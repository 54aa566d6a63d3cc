"""The one decoder: from a file (DICOM too), bytes, an array or a PIL image to upright RGB."""

import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from pfedmoap.data.dicom import SUFFIXES, begins_as_dicom, is_dicom, read_dicom
from pfedmoap.errors import DataError
from pfedmoap.storage.digests import sha256

ImageSource = str | Path | bytes | Image.Image | NDArray[np.generic]
"""Whatever an image can be given as."""

MOST_PIXELS = 89_478_485
"""Largest width times height that is decoded, Pillow's own mark of a decompression bomb."""

MOST_SCANNED = 2_000_000_000
"""Largest number of pixels times passes over them in a JPEG: a pass costs a sender some bytes."""

_SCAN = re.compile(rb"\xff\xda\x00(?:\x08\x01|\x0a\x02|\x0c\x03|\x0e\x04)")  # of JPEG, in any file

NOT_RASTER = frozenset(("BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"))
"""Formats that Pillow recognises but decodes with another program, or not at all."""


@dataclass(frozen=True)
class CheckedFile:
    """The result of checking a file.

    Attributes:
        digest: SHA-256 of the content, hexadecimal.
        size_bytes: Length of the file.
        problem: Why it cannot be used as an image, or ``None`` if it can.
    """

    digest: str
    size_bytes: int
    problem: str | None


def has_image_suffix(name: str) -> bool:
    """Whether a suffix is that of a format that is opened here, Pillow's plug-ins included."""
    if Path(name).suffix.lower() in SUFFIXES:
        return True
    kind = Image.registered_extensions().get(Path(name).suffix.lower())
    return kind in Image.OPEN and kind not in NOT_RASTER


def seems_image(path: Path) -> bool:
    """Whether a file has an image's suffix or, with any other name, an image's first bytes."""
    return has_image_suffix(path.name) or opens(path)


def opens(path: Path) -> bool:
    """Whether a file begins as an image that Pillow opens, or DICOM, whatever it is called."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return False
        if begins_as_dicom(path):
            return True
        with path.open("rb") as file, Image.open(file, formats=_signed_formats()):
            return True
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return True  # an image, which will be refused by name
    except Exception:  # whatever a plug-in says of a file that is not its own
        return False


def check(path: Path) -> CheckedFile:
    """Read a file, hash it and decode it to the end.

    A JPEG is decoded at reduced resolution, which still reads the whole file.

    Args:
        path: The file.

    Returns:
        Digest and size, and the reason if the file is not a usable image.
    """
    try:
        content = read_content(path)
    except DataError as error:
        return CheckedFile("", 0, str(error))
    try:
        _decoded(content, draft=True)
    except DataError as error:
        return CheckedFile(sha256(content), len(content), str(error))
    return CheckedFile(sha256(content), len(content), None)


def decode(
    image: ImageSource, *, most_pixels: int = MOST_PIXELS, formats: Sequence[str] | None = None
) -> Image.Image:
    """Decode an image, however it is given, to the same pixels.

    Upright as its EXIF orientation says; see `to_rgb` for transparency and deep grey. Of an
    animation the first frame is taken.

    Args:
        image: A path, a file's content, a PIL image of any mode, or an array: (H, W) or
            (H, W, 1) grey, (H, W, 2) grey and opacity, (H, W, 3) RGB or (H, W, 4) RGB and opacity,
            of type uint8; grey also of uint16 (65535 is white) and bool.
        most_pixels: Largest width times height that is decoded.
        formats: Pillow's names of the formats that a file may have; ``None`` takes all.

    Returns:
        The RGB image.

    Raises:
        DataError: It cannot be read or decoded; one line says why, and which file it is.
    """
    if isinstance(image, Image.Image):
        return _guarded(image, most_pixels)
    if isinstance(image, np.ndarray):
        return _guarded(_from_array(image), most_pixels)
    if isinstance(image, bytes):
        return _decoded(image, most_pixels, formats)
    if not isinstance(image, str | Path):
        raise DataError(f"an image is a path, bytes, an array or a PIL image, not {type(image)}")
    try:
        return _decoded(read_content(Path(image)), most_pixels, formats)
    except DataError as error:
        raise DataError(f"{printable(image)} cannot be read as an image: {error}") from error


def read_content(path: Path) -> bytes:
    """Read an image file.

    Raises:
        DataError: It is absent, or no regular file: a pipe would be waited for without end.
    """
    try:
        kind = path.stat().st_mode
        if stat.S_ISREG(kind):
            return path.read_bytes()
    except FileNotFoundError as error:
        reason = "it is a broken link" if path.is_symlink() else "no such file or directory"
        raise DataError(reason) from error
    except (OSError, ValueError) as error:  # ValueError: a name with a null byte
        raise DataError(str(getattr(error, "strerror", None) or error)) from error
    raise DataError("it is a folder" if stat.S_ISDIR(kind) else "it is no regular file")


def printable(name: str | os.PathLike[str]) -> str:
    """A file's name for messages; bytes of it that are not UTF-8 are written as escapes."""
    return os.fspath(name).encode("utf-8", "backslashreplace").decode()


def to_rgb(image: Image.Image) -> Image.Image:
    """Turn any image into RGB, upright as its EXIF orientation says.

    Transparent parts become white (plain conversion would show the hidden colour beneath, mostly
    black), and 16-bit grey is scaled to 8 bits (plain conversion would clip it to white).

    Args:
        image: An image of any mode that Pillow reads.

    Returns:
        The RGB image.

    Raises:
        DataError: If the pixels are floating point, whose range is unknown.
    """
    upright = ImageOps.exif_transpose(image)
    if upright.mode == "F":
        raise DataError("pixels are floating point, expected 8 or 16 bits")
    if upright.mode == "I" or upright.mode.startswith("I;16"):
        grey = np.asarray(upright, dtype=np.float64).clip(0, 65535) / 257
        return Image.fromarray(np.rint(grey).astype(np.uint8)).convert("RGB")
    if upright.has_transparency_data:
        layer = upright.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return upright.convert("RGB")


def _registered() -> list[str]:
    Image.init()
    return list(Image.ID)


def _signed_formats() -> list[str]:
    """The formats that are decoded and known by a file's first bytes."""
    usable = (kind for kind in _registered() if kind not in NOT_RASTER)
    return [kind for kind in usable if Image.OPEN[kind][1] is not None]


def _decoded(
    content: bytes,
    most_pixels: int = MOST_PIXELS,
    formats: Sequence[str] | None = None,
    *,
    draft: bool = False,
) -> Image.Image:
    """Decode a file's content; with ``draft`` coarsely, to see whether it is whole."""
    if not content:
        raise DataError("the file is empty")
    if formats is None and is_dicom(content):
        return _guarded(read_dicom(content, most_pixels), most_pixels)
    known = None if formats is None else [kind for kind in formats if kind in _registered()]
    try:
        with Image.open(BytesIO(content), formats=known) as image:
            if image.format in NOT_RASTER:
                raise DataError(f"Pillow decodes no {image.format}")
            pixels = image.width * image.height
            if pixels * sum(1 for _ in _SCAN.finditer(content)) > MOST_SCANNED:
                raise DataError(
                    f"a JPEG of {pixels} pixels in so many passes takes very long to decode; at "
                    f"most {MOST_SCANNED} pixels times passes are decoded: save it anew"
                )
            if draft and pixels <= MOST_PIXELS:
                image.draft("RGB", (32, 32))
            return _guarded(image, most_pixels)
    except UnidentifiedImageError as error:
        taken = "" if known is None else f" in a format that is taken here: {', '.join(known)}"
        raise DataError(f"not an image{taken}") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"it claims an enormous size: {error}".splitlines()[0]) from error
    except DataError:
        raise
    except Exception as error:  # Pillow's decoders raise errors of a dozen types
        raise DataError(f"{type(error).__name__}: {error}".splitlines()[0]) from error


def _guarded(image: Image.Image, most_pixels: int) -> Image.Image:
    """`to_rgb`, with a bound on the size and Pillow's errors as ours."""
    if (pixels := image.width * image.height) > most_pixels:
        raise DataError(
            f"it claims an enormous size, {image.width} x {image.height} = {pixels} pixels; at "
            f"most {most_pixels} are decoded: make it smaller"
        )
    try:
        return to_rgb(image)
    except DataError:
        raise
    except Exception as error:  # Pillow's decoders raise errors of a dozen types
        raise DataError(f"{type(error).__name__}: {error}".splitlines()[0]) from error


def _from_array(array: NDArray[np.generic]) -> Image.Image:
    """A PIL image of an array; see `decode` for its forms."""
    grey = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
    if grey.size == 0:
        raise DataError(f"the array has shape {array.shape}, which holds no pixel")
    deep = grey.dtype in (np.uint16, np.bool_)
    if grey.ndim == 2 and (deep or grey.dtype == np.uint8):
        return Image.fromarray(np.ascontiguousarray(grey))
    if grey.ndim == 3 and grey.shape[2] in (2, 3, 4) and grey.dtype == np.uint8:
        return Image.fromarray(np.ascontiguousarray(grey))
    raise DataError(
        f"the array has shape {array.shape} and type {array.dtype}; expected (H, W) of uint8, "
        "uint16 or bool, or (H, W, 1 to 4) of uint8 with values from 0 to 255"
    )
