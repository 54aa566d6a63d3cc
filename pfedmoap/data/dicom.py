"""Images in DICOM files, as a viewer shows them: rescaled, windowed, dark where air is.

Of a file's header only what the pixels need is read; names and dates of patients go nowhere. Whose
image it is has to be said elsewhere, in the column ``group`` of ``--data csv``.
"""

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pfedmoap.errors import DataError

if TYPE_CHECKING:
    from pydicom import Dataset

SUFFIXES = (".dcm", ".dicom")
_MARK, _AT = b"DICM", 128
_SIGMOID = 4.0  # slope of the sigmoid window, PS3.3 C.11.2.1.3.1

Floats = NDArray[np.float64]


def is_dicom(content: bytes) -> bool:
    """Whether a file's content, or its first 132 bytes, begins as DICOM's."""
    return content[_AT : _AT + len(_MARK)] == _MARK


def begins_as_dicom(path: Path) -> bool:
    """Whether a file begins as DICOM's; ``False`` where it cannot be read."""
    try:
        with path.open("rb") as file:
            return is_dicom(file.read(_AT + len(_MARK)))
    except OSError:
        return False


def read_dicom(content: bytes, most_pixels: int) -> Image.Image:
    """Decode the one image of a DICOM file.

    Grey values go through the modality's rescaling, then through the first window or look-up table
    that the file asks for (without one, its own range of values becomes black to white);
    ``MONOCHROME1``, where large values are dark, is inverted. Padding is black.

    Args:
        content: The file's content.
        most_pixels: Largest width times height that is decoded.

    Returns:
        A grey (``L``) or RGB image.

    Raises:
        DataError: It has several frames, no pixels, too many, or cannot be decoded; or the library
            that reads it is not installed.
    """
    try:
        import pydicom
        from pydicom.errors import InvalidDicomError
        from pydicom.pixels.processing import apply_color_lut
    except ImportError as error:
        raise DataError(
            "it is a DICOM file, and pydicom is not installed: pip install 'pfedmoap[dicom]'"
        ) from error
    try:
        found = pydicom.dcmread(BytesIO(content))
    except (InvalidDicomError, EOFError, ValueError, OSError, AttributeError) as error:
        raise DataError(f"it is a damaged DICOM file ({_short(error)})") from error
    _check(found, most_pixels)
    try:
        pixels = found.pixel_array
        if int(found.SamplesPerPixel) == 3:
            return _colour(pixels, int(found.BitsStored))
        if found.PhotometricInterpretation == "PALETTE COLOR":
            coloured = apply_color_lut(pixels, found)
            return _colour(coloured, 8 * coloured.dtype.itemsize)
        return Image.fromarray(np.rint(255 * _grey(pixels, found)).astype(np.uint8))
    except DataError:
        raise
    except Exception as error:  # of pydicom's decoders, of several libraries
        raise DataError(f"its pixels cannot be decoded ({_short(error)})") from error


def windowed(values: Floats, centre: float, width: float, function: str = "LINEAR") -> Floats:
    """Apply a window of DICOM's: PS3.3 C.11.2.1.2 and C.11.2.1.3.

    Args:
        values: Rescaled values.
        centre: The window's centre.
        width: Its width, above 0; at least 1 where the function is ``LINEAR``.
        function: ``LINEAR``, ``LINEAR_EXACT`` or ``SIGMOID``.

    Returns:
        Values between 0 and 1.

    Raises:
        DataError: The window has no such form.
    """
    least = 1.0 if function == "LINEAR" else np.nextafter(0, 1)
    if not width >= least or function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        raise DataError(f"it asks for a window {function} of width {width}, which there is not")
    if function == "SIGMOID":
        steep = np.clip(-_SIGMOID * (values - centre) / width, -700, 700)
        return np.asarray(1 / (1 + np.exp(steep)), dtype=np.float64)
    if function == "LINEAR":
        centre, width = centre - 0.5, width - 1
    if width == 0:
        return (values > centre).astype(np.float64)
    return np.asarray(np.clip((values - centre) / width + 0.5, 0, 1), dtype=np.float64)


def _check(found: "Dataset", most_pixels: int) -> None:
    wanted = ("Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "BitsStored")
    if missing := [name for name in wanted if found.get(name) is None]:
        raise DataError(f"it is a DICOM file without an image: {', '.join(missing)} missing")
    if (frames := int(found.get("NumberOfFrames") or 1)) != 1:
        raise DataError(
            f"it has {frames} frames: write the one to use, or each of them, as a file of its own"
        )
    rows, columns = int(found.Rows), int(found.Columns)
    if rows * columns > most_pixels:
        raise DataError(
            f"it claims an enormous size, {columns} x {rows} pixels; at most {most_pixels} are "
            "decoded: make it smaller"
        )


def _grey(pixels: NDArray[Any], found: "Dataset") -> Floats:  # of whatever depth
    """Grey values from 0 (black) to 1."""
    from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

    padding = _padding(pixels, found)
    values = np.asarray(apply_modality_lut(pixels, found), dtype=np.float64)
    if "VOILUTSequence" in found:
        table = found.VOILUTSequence[0].LUTDescriptor
        shown = np.asarray(apply_voi_lut(values.astype(np.int64), found, prefer_lut=True))
        grey = shown.astype(np.float64) / (2 ** int(table[2]) - 1)
    elif found.get("WindowCenter") is not None and found.get("WindowWidth") is not None:
        function = str(found.get("VOILUTFunction") or "LINEAR")
        centre, width = _first(found.WindowCenter), _first(found.WindowWidth)
        grey = windowed(values, centre, width, function)
    else:
        inside = values[~padding] if not padding.all() else values
        low, high = float(inside.min()), float(inside.max())
        grey = np.clip((values - low) / (high - low), 0, 1) if high > low else np.zeros_like(values)
    if found.PhotometricInterpretation == "MONOCHROME1":
        grey = 1 - grey
    elif found.PhotometricInterpretation != "MONOCHROME2":
        raise DataError(f"its pixels are {found.PhotometricInterpretation}, which is not known")
    grey[padding] = 0
    if not np.isfinite(grey).all():
        raise DataError("its grey values are not finite")
    return np.asarray(grey, dtype=np.float64)


def _padding(pixels: NDArray[Any], found: "Dataset") -> NDArray[np.bool_]:  # as in `_grey`
    value = found.get("PixelPaddingValue")
    if value is None:
        return np.zeros(pixels.shape, dtype=np.bool_)
    ends = sorted((int(value), int(found.get("PixelPaddingRangeLimit", value))))
    inside: NDArray[np.bool_] = (pixels >= ends[0]) & (pixels <= ends[1])
    return inside


def _colour(pixels: NDArray[Any], bits: int) -> Image.Image:  # as in `_grey`
    deep = np.asarray(pixels, dtype=np.float64) / (2**bits - 1)
    return Image.fromarray(np.rint(255 * np.clip(deep, 0, 1)).astype(np.uint8))


def _first(value: Any) -> float:  # one number of DICOM's, or several
    return float(value[0] if hasattr(value, "__len__") and not isinstance(value, str) else value)


def _short(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:200]} ..."
