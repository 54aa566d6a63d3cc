"""DICOM as a viewer shows it: rescaled, windowed, inverted where it says so, one frame alone."""

import io

import numpy as np
import pytest
from PIL import Image

from pfedmoap.data.csv_table import CSVTable
from pfedmoap.data.dicom import windowed
from pfedmoap.data.folder import ImageFolder
from pfedmoap.data.images import check, decode, seems_image
from pfedmoap.errors import DataError

pydicom = pytest.importorskip("pydicom")
from pydicom.dataset import FileDataset, FileMetaDataset  # noqa: E402  # where it is installed
from pydicom.pixels import apply_windowing  # noqa: E402
from pydicom.uid import (  # noqa: E402
    CTImageStorage,
    ExplicitVRLittleEndian,
    RLELossless,
    generate_uid,
)

RAMP = np.arange(12, dtype=np.uint16).reshape(3, 4) * 100


def dicom(pixels: np.ndarray, **values: object) -> bytes:
    """Write a small file; ``values`` are elements of its data set by keyword."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    made.SOPClassUID, made.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    made.PatientName = "Doe^Jane"
    colour = pixels.ndim == 3 and pixels.shape[-1] == 3
    made.Rows, made.Columns = pixels.shape[:2] if pixels.ndim == 2 or colour else pixels.shape[1:]
    made.SamplesPerPixel = 3 if colour else 1
    made.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        made.PlanarConfiguration = 0
    made.BitsAllocated = made.BitsStored = 8 * pixels.dtype.itemsize
    made.HighBit = made.BitsStored - 1
    made.PixelRepresentation = int(np.issubdtype(pixels.dtype, np.signedinteger))
    made.PixelData = pixels.tobytes()
    for name, value in values.items():
        setattr(made, name, value)
    content = io.BytesIO()
    made.save_as(content, enforce_file_format=True)
    return content.getvalue()


def grey(content: bytes) -> np.ndarray:
    image = decode(content)
    assert image.mode == "RGB"
    array = np.asarray(image)
    assert (array == array[..., :1]).all()
    return array[..., 0]


def test_without_a_window_the_range_becomes_black_to_white():
    expected = np.rint(RAMP * (255 / 1100)).astype(np.uint8)
    assert (grey(dicom(RAMP)) == expected).all()
    assert (grey(dicom(np.full((2, 2), 7, np.uint16))) == 0).all()


def test_monochrome1_is_inverted():
    inverted = grey(dicom(RAMP, PhotometricInterpretation="MONOCHROME1"))
    assert (inverted.astype(int) + grey(dicom(RAMP)) == 255).all()


def test_values_are_rescaled_before_they_are_windowed():
    content = dicom(
        RAMP,
        RescaleSlope=2,
        RescaleIntercept=-1000,
        WindowCenter=["40", "600"],
        WindowWidth=["400", "1600"],
    )
    expected = np.clip((2.0 * RAMP - 1000 - 39.5) / 399 + 0.5, 0, 1)
    assert (grey(content) == np.rint(255 * expected).astype(np.uint8)).all()


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(("centre", "width"), [(40, 400), (600, 1), (-3, 20.5)])
def test_windows_are_those_of_pydicom(function: str, centre: float, width: float):
    values = np.arange(-500, 1200, 7, dtype=np.float64)
    made = pydicom.Dataset()
    made.WindowCenter, made.WindowWidth, made.VOILUTFunction = centre, width, function
    made.PhotometricInterpretation, made.BitsStored, made.PixelRepresentation = "MONOCHROME2", 8, 0
    with np.errstate(all="ignore"):
        theirs = apply_windowing(values, made) / 255
    assert windowed(values, centre, width, function) == pytest.approx(theirs, abs=1e-6)


def test_padding_is_black_and_does_not_stretch_the_range():
    pixels = np.array([[-2000, 0, 50, 100]], np.int16)
    plain = dicom(pixels, PixelPaddingValue=-2000)
    assert grey(plain).tolist() == [[0, 0, 128, 255]]
    inverted = dicom(pixels, PixelPaddingValue=-2000, PhotometricInterpretation="MONOCHROME1")
    assert grey(inverted).tolist() == [[0, 255, 128, 0]]


def test_a_table_of_grey_values_is_followed():
    table = pydicom.Dataset()
    table.LUTDescriptor, table.LUTData = [4, 0, 8], np.array([0, 255, 128, 7], "<u2").tobytes()
    content = dicom(np.array([[0, 1, 2, 3]], np.uint8), VOILUTSequence=pydicom.Sequence([table]))
    assert grey(content).tolist() == [[0, 255, 128, 7]]


def test_colours_are_colours():
    pixels = np.random.default_rng(0).integers(0, 255, (3, 4, 3)).astype(np.uint8)
    assert (np.asarray(decode(dicom(pixels))) == pixels).all()


def test_palettes_planes_and_compression_give_the_same_pixels():
    palette: dict[str, object] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for name, values in (("Red", [0, 65535]), ("Green", [65535, 0]), ("Blue", [0, 0])):
        palette[f"{name}PaletteColorLookupTableDescriptor"] = [2, 0, 16]
        palette[f"{name}PaletteColorLookupTableData"] = np.array(values, "<u2").tobytes()
    coloured = np.asarray(decode(dicom(np.array([[0, 1]], np.uint8), **palette)))
    assert coloured.tolist() == [[[0, 255, 0], [255, 0, 0]]]
    pixels = np.random.default_rng(0).integers(0, 255, (3, 4, 3)).astype(np.uint8)
    planes = pixels.transpose(2, 0, 1).tobytes()
    by_plane = decode(dicom(pixels, PlanarConfiguration=1, PixelData=planes))
    assert (np.asarray(by_plane) == pixels).all()
    packed, content = pydicom.dcmread(io.BytesIO(dicom(RAMP))), io.BytesIO()
    packed.compress(RLELossless)
    packed.save_as(content)
    assert (grey(content.getvalue()) == grey(dicom(RAMP))).all()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (lambda: dicom(np.zeros((5, 2, 2), np.uint8), NumberOfFrames=5), "it has 5 frames: write"),
        (lambda: dicom(RAMP, Rows=60000, Columns=60000), "an enormous size"),
        (lambda: dicom(RAMP)[:-9], "its pixels cannot be decoded|damaged DICOM"),
        (lambda: dicom(RAMP)[:160], "without an image|damaged DICOM"),
        (lambda: dicom(RAMP, WindowCenter=1, WindowWidth=0), "window LINEAR of width 0"),
        (lambda: dicom(RAMP, PhotometricInterpretation="HSV"), "HSV, which is not known"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom's, of what is damaged on purpose
def test_what_cannot_be_shown_is_refused_in_a_line(content, why):
    with pytest.raises(DataError, match=why) as refused:
        decode(content())
    assert "\n" not in str(refused.value)


def test_without_the_library_the_extra_is_named(monkeypatch):
    content = dicom(RAMP)
    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
    with pytest.raises(DataError, match=r"pip install 'pfedmoap\[dicom\]'"):
        decode(content)


def test_folders_and_tables_of_dicom_files_are_data_sets(tmp_path):
    rows = ["image,label,site,group"]
    for label, name in enumerate(("clear", "opacity")):
        for number in range(4):
            place = tmp_path / "scans" / name / f"{number}{'.dcm' if number else ''}"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(
                dicom(RAMP + np.uint16(label * 10 + number), WindowCenter=500, WindowWidth=900)
            )
            rows.append(f"scans/{name}/{place.name},{name},site {number % 2},person {number}")
            assert seems_image(place)
            assert check(place).problem is None
    (tmp_path / "list.csv").write_text("\n".join(rows) + "\n")
    for reader in (ImageFolder(str(tmp_path / "scans")), CSVTable(str(tmp_path / "list.csv"))):
        dataset = reader.read()
        assert dataset.class_names == ("clear", "opacity")
        assert len(dataset) == 8
        assert isinstance(dataset.load(0), Image.Image)
    assert dataset.domain_names == ("site 0", "site 1")
    assert dataset.groups is not None


def test_formats_that_a_server_takes_do_not_include_it():
    with pytest.raises(DataError):
        decode(dicom(RAMP), formats=["PNG", "JPEG"])
