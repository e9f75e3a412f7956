"""DICOM: from stored values to what the file's author meant to be seen."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    JPEGLosslessSV1,
    RLELossless,
    generate_uid,
)

from enhancement import RadiographError, read_radiograph

RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)


def dicom(
    pixels: np.ndarray = RAMP, bits: int = 12, syntax=ExplicitVRLittleEndian, preamble: bool = True, **tags
) -> bytes:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=bytes(128) if preamble else None)
    dataset.SOPClassUID = meta.MediaStorageSOPClassUID
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.Modality = "DX"
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    dataset.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
    if pixels.ndim == 3:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = pixels.dtype.itemsize * 8
    dataset.BitsStored, dataset.HighBit = bits, bits - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OB" if pixels.dtype.itemsize == 1 else "OW"
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    if syntax == RLELossless:
        dataset.compress(RLELossless)
    elif syntax != ExplicitVRLittleEndian:
        dataset.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8" + bytes(60)])
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
        meta.TransferSyntaxUID = syntax
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=preamble)
    return file.getvalue()


def linear(values, center, width):
    """PS3.3 C.11.2.1.2.1, to 0..255."""
    share = (values - (center - 0.5)) / (width - 1) + 0.5
    return np.rint(np.clip(share, 0, 1) * 255)


@pytest.mark.parametrize(("center", "width"), [(2000, 1000), ([2000, 100], [1000, 50])])
def test_the_files_first_window_is_applied(read, center, width):
    assert (read(dicom(WindowCenter=center, WindowWidth=width)) == linear(RAMP.astype(float), 2000, 1000)).all()


TWO = {"WindowCenter": [2000, 100], "WindowWidth": [1000, 50], "WindowCenterWidthExplanation": ["NORMAL", "Hard  er"]}


def lut(entries: np.ndarray, bits: int, name: str = "") -> pydicom.Dataset:
    table = pydicom.Dataset()
    table.LUTDescriptor = [len(entries), 0, bits]
    table.LUTExplanation = name
    table.add_new("LUTData", "OW", entries.astype("<u2").tobytes())
    return table


@pytest.mark.parametrize("window", [2, "named:hard er"])
def test_another_window_is_taken_by_number_or_by_its_explanation(read, window):
    result = read(dicom(**TWO), window=window)
    assert (result == linear(RAMP.astype(float), 100, 50)).all()
    assert (read(dicom(**TWO), window=1) == read(dicom(**TWO))).all()


def test_look_up_tables_are_counted_before_windows(read):
    first, second = np.arange(4096), np.arange(4096)[::-1] // 2
    tables = Sequence([lut(first, 12, "NORMAL"), lut(second, 11, "BONE")])
    data = dicom(VOILUTSequence=tables, **TWO)
    assert (read(data, window=2) == np.rint(second[RAMP] / 2047 * 255)).all()
    assert (read(data, window="named:Bone") == read(data, window=2)).all()
    assert (read(data) == read(data, window="named:normal")).all(), "the first of two of that name"
    assert (read(data, window=4) == linear(RAMP.astype(float), 100, 50)).all()


@pytest.mark.parametrize(
    ("tags", "window", "said"),
    [
        (TWO, 3, "3 requested; the file has 1 window 'NORMAL', 2 window"),
        (TWO, "named:lung", "named:lung requested; the file has"),
        ({}, 1, "brings no window and no look-up table"),
        ({**TWO, "WindowWidth": [1000, 0]}, 2, "2 requested, which has no width"),
    ],
)
def test_a_window_that_is_not_there_is_refused_and_what_is_there_is_said(read, tags, window, said):
    with pytest.raises(RadiographError, match=said) as refused:
        read(dicom(**tags), window=window)
    assert "Hard" not in str(refused.value), "free text may name somebody"


def test_windows_of_their_own_are_for_gray_dicom_files(read, tmp_path):
    pixels = np.zeros((20, 30, 3), np.uint8)
    with pytest.raises(RadiographError, match="colour image has none"):
        read(dicom(pixels, bits=8), window=1)
    png = tmp_path / "a.png"
    assert cv2.imwrite(str(png), RAMP)
    with pytest.raises(RadiographError, match="only DICOM files"):
        read_radiograph(png, window=1)


def test_the_window_counts_in_rescaled_units(read):
    result = read(dicom(RescaleSlope=2, RescaleIntercept=-1000, WindowCenter=0, WindowWidth=500))
    assert (result == linear(RAMP * 2.0 - 1000, 0, 500)).all()


def test_the_exact_and_the_sigmoid_window(read):
    exact = read(dicom(WindowCenter=2000, WindowWidth=1000, VOILUTFunction="LINEAR_EXACT"))
    assert (exact == np.rint(np.clip((RAMP - 1500.0) / 1000, 0, 1) * 255)).all()
    sigmoid = read(dicom(WindowCenter=2000, WindowWidth=1000, VOILUTFunction="SIGMOID"))
    assert (sigmoid == np.rint(255 / (1 + np.exp(-4 * (RAMP - 2000.0) / 1000)))).all()


def test_a_window_one_wide_is_a_threshold(read):
    result = read(dicom(WindowCenter=2000, WindowWidth=1))
    assert (result == np.where(RAMP > 1999.5, 255, 0)).all()


def test_monochrome1_is_inverted_after_windowing(read):
    window = {"WindowCenter": 1000, "WindowWidth": 600}
    plain, inverted = read(dicom(**window)), read(dicom(PhotometricInterpretation="MONOCHROME1", **window))
    assert (inverted == 255 - plain).all()
    assert inverted[0, 0] == 255 and inverted[-1, -1] == 0


def test_the_voi_look_up_goes_before_the_window(read):
    entries = (np.arange(4096) // 2).astype(np.uint16)[::-1]
    result = read(dicom(VOILUTSequence=Sequence([lut(entries, 11)]), WindowCenter=9, WindowWidth=9))
    assert (result == np.rint(entries[RAMP] / 2047 * 255)).all()


def test_without_a_window_the_robust_range_is_shown(read):
    result = read(dicom())
    assert result[0, 0] == 0 and result[-1, -1] == 255
    assert (result == 0).sum() in range(15, 36)


def test_the_callers_window_goes_before_the_files(read):
    data = dicom(WindowCenter=2000, WindowWidth=10)
    assert (read(data, window="full") == np.rint(RAMP / 4095 * 255)).all()
    assert (read(data, window=(0, 1000)) == np.rint(np.clip(RAMP / 1000, 0, 1) * 255)).all()


def test_eight_bits_without_a_window_are_shown_as_they_are(read):
    pixels = (RAMP // 32 + 40).astype(np.uint8)
    assert (read(dicom(pixels, bits=8)) == pixels).all()


def test_signed_pixels_keep_their_order(read):
    pixels = (RAMP.astype(np.int16) - 2048).astype(np.int16)
    assert (read(dicom(pixels, bits=16), window="full") == np.rint(RAMP / 4095 * 255)).all()


def test_padding_is_black_and_does_not_decide_on_the_range(read):
    pixels = RAMP // 4 + 1000
    pixels[:8] = 0
    result = read(dicom(pixels, PixelPaddingValue=0, PhotometricInterpretation="MONOCHROME1"))
    assert (result[:8] == 0).all()
    assert result[8:].min() == 0 and result[8:].max() == 255


def test_colour_goes_to_gray_by_luma(read):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    assert np.abs(read(dicom(pixels, bits=8)) - pixels @ [0.299, 0.587, 0.114]).max() <= 0.51


@pytest.mark.parametrize("bits", [8, 12])
def test_a_palette_fills_sixteen_bits_whatever_the_depth_of_its_pixels(read, bits):
    size = 2**bits
    pixels = np.arange(0, size, size // 256, dtype=np.uint8 if bits == 8 else np.uint16).reshape(16, 16)
    entries = np.arange(256)[::-1] * 257 if bits == 8 else np.arange(4096) * 16
    tags: dict = {"PhotometricInterpretation": "PALETTE COLOR"}
    for name in ("Red", "Green", "Blue"):
        tags[f"{name}PaletteColorLookupTableData"] = entries.astype("<u2").tobytes()
        tags[f"{name}PaletteColorLookupTableDescriptor"] = [size, 0, 16]
    assert (read(dicom(pixels, bits=bits, **tags)) == (255 - pixels if bits == 8 else pixels // 16)).all()


def test_run_length_encoding_is_read(read):
    assert (read(dicom(syntax=RLELossless), window="full") == np.rint(RAMP / 4095 * 255)).all()


def test_a_file_without_preamble_is_read(read):
    data = dicom(WindowCenter=2000, WindowWidth=1000)
    assert (read(data[132:]) == read(data)).all()


def test_several_frames_are_refused(read):
    with pytest.raises(RadiographError, match="4 frames"):
        read(dicom(NumberOfFrames=4, Rows=16))


def test_the_pixel_limit_is_checked_from_the_header(read):
    with pytest.raises(RadiographError, match="60000 x 60000"):
        read(dicom(Rows=60000, Columns=60000))


def test_a_missing_decoder_is_named_with_what_to_do(read):
    with pytest.raises(RadiographError, match=r"JPEG Lossless.*pip install"):
        read(dicom(syntax=JPEGLosslessSV1))


def test_a_file_without_pixels_is_refused(read):
    with pytest.raises(RadiographError, match="without pixels"):
        read(dicom().split(b"\xe0\x7f\x10\x00")[0])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless])
def test_truncated_files_are_refused(read, syntax):
    data = dicom(syntax=syntax)
    for cut in [*range(200, len(data), len(data) // 25), len(data) - 40]:
        with pytest.raises(RadiographError):
            read(data[:cut])


@pytest.mark.real
def test_real_files_of_both_polarities_show_bright_bone(real_data):
    gray = read_radiograph(real_data / "dicom" / "chest_mono1_10bit.dcm")
    twin = read_radiograph(real_data / "dicom" / "chest_10bit_display_polarity.png")
    assert np.corrcoef(gray.ravel(), twin.ravel())[0, 1] > 0.99
    assert read_radiograph(real_data / "dicom" / "chest_mono2_8bit_jpeg.dcm").shape == (1024, 1024)
