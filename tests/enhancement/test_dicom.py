"""DICOM: from stored values to what the file's author meant to be seen."""

import io
import struct
import traceback
import warnings

import cv2
import numpy as np
import pydicom
import pytest
from dicom_files import RAMP, dicom
from encoded_pictures import encode
from pydicom.pixels import get_encoder
from pydicom.sequence import Sequence
from pydicom.uid import (
    MPEG2MPML,
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from enhancement import RadiographError, read_radiograph
from enhancement.dicom import read_case


def linear(values, center, width):
    """PS3.3 C.11.2.1.2.1, to 0..255."""
    share = (np.asarray(values, float) - (center - 0.5)) / (width - 1) + 0.5
    return np.rint(np.clip(share, 0, 1) * 255)


TWO = {"WindowCenter": [2000, 100], "WindowWidth": [1000, 50], "WindowCenterWidthExplanation": ["NORMAL", "Hard  er"]}


def lut(entries: np.ndarray, bits: int, name: str = "") -> pydicom.Dataset:
    table = pydicom.Dataset()
    table.LUTDescriptor = [len(entries), 0, bits]
    table.LUTExplanation = name
    table.add_new("LUTData", "OW", entries.astype("<u2").tobytes())
    return table


def packed(entries: np.ndarray, first=0, vr="OW") -> pydicom.Dataset:
    table = lut(entries, 8)
    table.LUTDescriptor = [len(entries), first, 8]
    words = entries.astype(np.uint8)
    table.add_new("LUTData", vr, words.tobytes() if vr == "OW" else words.view("<u2").tolist())
    return table


def sequence(*tables: pydicom.Dataset, keyword="VOILUTSequence") -> dict:
    return {keyword: Sequence(tables)}


def without_meta(data: bytes, preamble: bool, implicit: bool) -> bytes:
    plain = pydicom.Dataset(dict(pydicom.dcmread(io.BytesIO(data)).items()))
    body = pydicom.filebase.DicomBytesIO()
    body.is_implicit_VR, body.is_little_endian = implicit, True
    pydicom.filewriter.write_dataset(body, plain)
    return (bytes(128) + b"DICM" if preamble else b"") + body.getvalue()


def window(center, width, function="LINEAR", **tags) -> dict:
    return {"WindowCenter": center, "WindowWidth": width, "VOILUTFunction": function, **tags}


REVERSED = (np.arange(4096) // 2).astype(np.uint16)[::-1]
TABLE = {"VOILUTSequence": Sequence([lut(REVERSED, 11)])}
BYTES = np.arange(256)
MODALITY = {"keyword": "ModalityLUTSequence"}
DOUBLED = {"RescaleSlope": 2, "RescaleIntercept": -1000}
SHALLOW = (RAMP // 32 + 40).astype(np.uint8)
FULL = np.rint(RAMP / 4095 * 255)
EIGHT = {"pixels": SHALLOW, "bits": 8, "syntax": JPEGBaseline8Bit}
STREAM = {**EIGHT, "syntax": JPEG2000Lossless}
JPEG = cv2.imencode(".jpg", SHALLOW, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
SHORT = Sequence([lut(REVERSED, 12)])
SHORT[0].LUTDescriptor = [5000, 0, 12]
SHOWN = {
    "the file's window": (window(2000, 1000), None, linear(RAMP, 2000, 1000)),
    "the first of two": (window([2000, 100], [1000, 50]), None, linear(RAMP, 2000, 1000)),
    "in rescaled units": (window(0, 500, **DOUBLED), None, linear(RAMP * 2.0 - 1000, 0, 500)),
    "exact": (window(2000, 1000, "LINEAR_EXACT"), None, np.rint(np.clip((RAMP - 1500.0) / 1000, 0, 1) * 255)),
    "sigmoid": (window(2000, 1000, "SIGMOID"), None, np.rint(255 / (1 + np.exp(-4 * (RAMP - 2000.0) / 1000)))),
    "one wide is a threshold": (window(2000, 1), None, np.where(RAMP > 1999.5, 255, 0)),
    "a look-up table before a window": (window(9, 9, **TABLE), None, np.rint(REVERSED[RAMP] / 2047 * 255)),
    "the caller's full range before the file's window": (window(2000, 10), "full", FULL),
    "the caller's numbers": (window(2000, 10), (0, 1000), np.rint(np.clip(RAMP / 1000, 0, 1) * 255)),
    "eight bits as they are": ({"pixels": SHALLOW, "bits": 8}, None, SHALLOW),
    "the second of two by its number": (TWO, 2, linear(RAMP, 100, 50)),
    "the second of two by its explanation": (TWO, "named:hard er", linear(RAMP, 100, 50)),
    "the first of two by its number": (TWO, 1, linear(RAMP, 2000, 1000)),
    "signed pixels in their order": ({"pixels": RAMP.astype(np.int16) - 2048, "bits": 16}, "full", FULL),
    "a table of 12 bits that declares its words' 16": (sequence(lut(np.arange(4096), 16)), None, FULL),
    "a table whose entries exceed its declared bits": (sequence(lut(np.arange(4096), 10)), None, FULL),
    "a table of packed bytes": (sequence(packed(BYTES[::-1])), None, BYTES[::-1][RAMP.clip(0, 255)]),
    "packed bytes as numbers": (
        sequence(packed(BYTES, 256, "US")),
        None,
        BYTES[(RAMP - 256.0).clip(0, 255).astype(int)],
    ),
    "a modality table of 12 bits": (
        sequence(lut(REVERSED, 12), **MODALITY),
        "full",
        np.rint(REVERSED[RAMP] / 2047 * 255),
    ),
    "a packed modality table": (sequence(packed(BYTES), **MODALITY), "full", BYTES[RAMP.clip(0, 255)]),
    "a window after an empty table": (window(2000, 1000) | sequence(pydicom.Dataset()), None, linear(RAMP, 2000, 1000)),
    "a window after one without width": (window([9, 2000], [0, 1000]), None, linear(RAMP, 2000, 1000)),
    "eight bits with a rescale that changes nothing": (
        {"pixels": SHALLOW, "bits": 8, "RescaleSlope": 1, "RescaleIntercept": 0},
        None,
        SHALLOW,
    ),
    "eight bits stored in sixteen": ({"pixels": SHALLOW.astype(np.uint16), "bits": 8}, None, SHALLOW),
    "a rescale beyond whole numbers": ({"RescaleSlope": "9" * 64, "RescaleIntercept": "0"}, "full", FULL),
    "pixels below a burnt-in overlay": ({"pixels": RAMP | np.uint16(0x8000), "HighBit": 11}, "full", FULL),
    "pixels above an overlay of one bit": ({"pixels": RAMP << 2 | np.uint16(1), "HighBit": 13}, "full", FULL),
    "pixels in the highest bits": ({"pixels": RAMP << 4 | np.uint16(1), "HighBit": 15}, "full", FULL),
    "run-length encoding": ({"syntax": RLELossless}, "full", FULL),
    "deflated": ({"syntax": DeflatedExplicitVRLittleEndian}, "full", FULL),
    "JPEG 2000": (STREAM | {"PixelData": encode(SHALLOW, "JPEG2000")}, None, SHALLOW),
}


@pytest.mark.parametrize("name", SHOWN)
def test_stored_values_become_what_the_file_means_to_show(read, name):
    tags, requested, expected = SHOWN[name]
    assert (read(dicom(**tags), window=requested) == expected).all()


@pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEG2000Lossless], ids=["JPEG-LS", "JPEG 2000"])
def test_lossless_streams_of_twelve_bits_are_read_where_a_plugin_can(read, syntax):
    if not get_encoder(syntax).is_available:
        pytest.skip("no plugin: pip install '.[dicom]'")
    assert (read(dicom(syntax=syntax), window="full") == FULL).all()


def test_what_cannot_be_shown_is_refused_with_its_reason(read):
    refused = {
        "4 frames": {"NumberOfFrames": 4, "Rows": 16},
        "60000 x 60000": {"Rows": 60000, "Columns": 60000},  # the limit is checked from the header
        r"MPEG2.*pip install": {"syntax": MPEG2MPML},  # no decoder of pydicom's knows films
        "truncated .*JPEG Baseline.* no end marker": EIGHT | {"PixelData": JPEG[: len(JPEG) // 4 * 2]},
        "damaged .*JPEG Baseline.* cannot be decoded": EIGHT | {"PixelData": JPEG.replace(b"\xff\xdb", b"\xff\xfe")},
        "2 of 16 bits": {"BitsStored": 2},
        "0 of 16 bits": {"BitsStored": 0},
        "modality look-up table": {"ModalityLUTSequence": SHORT},
        "window leaves one grey level": window("9" * 64, 100),
        "rescale .*leaves one grey level": {"RescaleSlope": "1", "RescaleIntercept": "1e30"},
        "rescale makes numbers too large": {"RescaleSlope": "1e308", "RescaleIntercept": "0"} | window(2000, 100),
    }
    assert np.abs(read(dicom(**EIGHT, PixelData=JPEG)).astype(int) - SHALLOW).max() < 9
    for message, tags in refused.items():
        with pytest.raises(RadiographError, match=message):
            read(dicom(**tags))
    assert read(dicom(), window=(-9, -5)).min() == 255, "the caller's numbers may lie beside all pixels"
    with pytest.raises(RadiographError, match="without pixels"):
        read(dicom().split(b"\xe0\x7f\x10\x00")[0])


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({b"2047.5": b"2047,5"}, linear(RAMP, 2047.5, 4096.5)),
        ({b"2047.5": b"AUTO  "}, None),
        ({b"2047.5": b"      "}, None),
        ({b"-100.5": b"-100,5"}, linear(RAMP - 100.5, 2047.5, 4096.5)),
        ({b"-100.5": b"a word"}, linear(RAMP, 2047.5, 4096.5)),
    ],
)
def test_numbers_may_have_a_comma_and_what_is_no_number_is_passed_over(read, wrong, expected):
    rescale = {"RescaleIntercept": "-100.5", "RescaleSlope": "1"} if b"-100.5" in wrong else {}
    data = dicom(WindowCenter="2047.5", WindowWidth="4096.5", **rescale)
    for right, changed in wrong.items():
        data = data.replace(right, changed)
    assert (read(data) == (read(dicom()) if expected is None else expected)).all()


@pytest.mark.parametrize("implicit", [True, False])
@pytest.mark.parametrize("preamble", [True, False])
def test_a_file_without_its_meta_group_is_read_as_little_endian(read, tmp_path, preamble, implicit):
    (tmp_path / "a.dcm").write_bytes(without_meta(dicom(**TWO), preamble, implicit))
    assert (read_radiograph(tmp_path / "a.dcm") == read(dicom(**TWO))).all()
    assert read_case(tmp_path / "a.dcm").header.width == 64


def test_look_up_tables_are_counted_before_windows(read):
    first, second = np.arange(4096), np.arange(4096)[::-1] // 2
    tables = Sequence([lut(first, 12, "NORMAL"), lut(second, 11, "BONE")])
    data = dicom(VOILUTSequence=tables, **TWO)
    assert (read(data, window=2) == np.rint(second[RAMP] / 2047 * 255)).all()
    assert (read(data, window="named:Bone") == read(data, window=2)).all()
    assert (read(data) == read(data, window="named:normal")).all(), "the first of two of that name"
    assert (read(data, window=4) == linear(RAMP.astype(float), 100, 50)).all()


@pytest.mark.parametrize(
    ("tags", "window", "reason"),
    [
        (TWO, 3, "3 requested; the file has 1 window 'NORMAL', 2 window"),
        (TWO, "named:lung", "named:lung requested; the file has"),
        ({}, 1, "brings no window and no look-up table"),
        ({**TWO, "WindowWidth": [1000, 0]}, 2, "2 requested, which has no width"),
    ],
)
def test_a_window_that_is_not_there_is_refused_and_what_is_there_is_said(read, tags, window, reason):
    with pytest.raises(RadiographError, match=reason) as refused:
        read(dicom(**tags), window=window)
    assert "Hard" not in str(refused.value), "free text may name somebody"


def test_colour_goes_to_gray_by_luma_and_windows_of_their_own_are_for_gray_dicom_files(read, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    assert np.abs(read(dicom(pixels, bits=8)) - pixels @ [0.299, 0.587, 0.114]).max() <= 0.51
    with pytest.raises(RadiographError, match="colour image has none"):
        read(dicom(pixels, bits=8), window=1)
    cv2.imwrite(str(tmp_path / "a.png"), RAMP)
    with pytest.raises(RadiographError, match="only DICOM files"):
        read_radiograph(tmp_path / "a.png", window=1)


def test_monochrome1_is_inverted_after_windowing_and_without_a_window_the_robust_range_is_shown(read):
    window = {"WindowCenter": 1000, "WindowWidth": 600}
    plain, inverted = read(dicom(**window)), read(dicom(PhotometricInterpretation="MONOCHROME1", **window))
    assert (inverted == 255 - plain).all()
    assert inverted[0, 0] == 255 and inverted[-1, -1] == 0
    robust = read(dicom())
    assert robust[0, 0] == 0 and robust[-1, -1] == 255 and (robust == 0).sum() in range(15, 36)
    pixels = RAMP // 4 + 1000
    pixels[:8] = 0  # padding is black and does not decide on the range
    padded = read(dicom(pixels, PixelPaddingValue=0, PhotometricInterpretation="MONOCHROME1"))
    assert (padded[:8] == 0).all() and padded[8:].min() == 0 and padded[8:].max() == 255


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


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless])
def test_truncated_files_are_refused_but_not_one_without_preamble_or_with_an_odd_one(read, syntax):
    data = dicom(syntax=syntax)
    for odd in (data[132:], b"II*\0\x54\x18\x08\0" + data[8:]):  # no preamble, or one that is a TIFF header
        assert (read(odd) == read(data)).all()
    for cut in [*range(200, len(data), len(data) // 25), len(data) - 40]:
        with pytest.raises(RadiographError):
            read(data[:cut])


LARGE = struct.pack(">HH", 65500, 65500)
STREAMS = {
    "JPEG": EIGHT | {"PixelData": encode(SHALLOW, "JPEG").replace(b"\0\x40\0\x40", LARGE)},
    "JPEG with a second header": EIGHT
    | {
        "PixelData": encode(SHALLOW, "JPEG").replace(b"\xff\xda", b"\xff\xc0\0\x0b\x08" + LARGE + b"\1\1\x11\0\xff\xda")
    },
    "JPEG 2000": STREAM
    | {"PixelData": encode(SHALLOW, "JPEG2000").replace(struct.pack(">II", 64, 64), bytes(2) + LARGE * 2)},
    "neither": STREAM | {"PixelData": encode(SHALLOW, "PNG")},
    "cut": STREAM | {"PixelData": encode(SHALLOW, "JPEG2000")[:100]},
}


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_of_another_size_than_its_header_is_refused_before_it_is_decoded(read, monkeypatch, name):
    monkeypatch.setattr("enhancement.dicom.pixel_array", lambda *_: pytest.fail("decoded"))
    with pytest.raises(RadiographError, match="damaged"):
        read(dicom(**STREAMS[name]))


def test_a_jpeg_frame_that_ends_early_is_refused_and_a_black_border_is_not(read):
    bordered = np.pad(SHALLOW, ((0, 64), (0, 64)))
    stream = encode(bordered, "JPEG", quality=90)
    tags = EIGHT | {"pixels": bordered}
    assert (read(dicom(**tags, PixelData=stream))[80:, 80:] == 0).all()
    start = stream.index(b"\xff\xda") + 10
    with pytest.raises(RadiographError, match="last rows are missing"):
        read(dicom(**tags, PixelData=stream[: start + (len(stream) - start) // 3] + b"\xff\xd9"))


def test_a_deflated_file_is_refused_before_it_unpacks_to_too_much(read, tmp_path, monkeypatch):
    data = dicom(syntax=DeflatedExplicitVRLittleEndian)
    monkeypatch.setattr("enhancement.dicom._MOST_UNPACKED", 5000)
    monkeypatch.setattr("pydicom.dcmread", lambda *_, **__: pytest.fail("unpacked"))
    (tmp_path / "bomb").write_bytes(data)
    for reader in (read_radiograph, read_case):
        with pytest.raises(RadiographError, match="unpacks to more"):
            reader(tmp_path / "bomb")


NAMES = {"PatientName": "FEATHERSTON^ANNE", "PatientID": "QX7301ZW", "AccessionNumber": "ACC55501J"}
SPOILT = {
    "a wrong VR": [(4, b"US"), (4, b"UN"), (4, b"SQ"), (4, b"FD"), (4, b"\0\0")],
    "a wrong length": [(6, b"\1\0"), (6, b"\7\0"), (6, b"\x40\0"), (6, b"\xff\xff")],
    "another tag": [(0, b"\x28\0\x10\0"), (0, b"\x28\0\x50\x10"), (0, b"\x08\0\x05\0"), (0, b"\x08\0\x16\0")],
}


@pytest.mark.parametrize("kind", SPOILT)
def test_no_value_of_a_damaged_header_reaches_a_message_or_a_warning(read, tmp_path, kind, capfd, caplog):
    data = dicom(StudyDescription="chest of FEATHERSTON", **NAMES, **TWO)
    # explicit VR: two bytes each of group and element, VR, length
    tags = [b"\x08\0\x16\0", b"\x08\0\x18\0", b"\x08\0\x50\0", b"\x08\0\x60\0", b"\x08\0\x30\x10", b"\x10\0\x10\0"]
    tags += [b"\x10\0\x20\0", b"\x28\0\x02\0", b"\x28\0\x10\0", b"\x28\0\x50\x10"]
    lines = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for tag in tags:
            for offset, change in SPOILT[kind]:
                at = data.index(tag, 300) + offset
                path = tmp_path / "spoilt.dcm"
                path.write_bytes(data[:at] + change + data[at + len(change) :])
                for reader in (read_radiograph, lambda path: read_radiograph(path, window=3), read_case):
                    try:
                        reader(path)
                    except RadiographError as error:
                        lines += traceback.format_exception(error)
    assert lines and not caught and not caplog.records
    text = "".join([*lines, *capfd.readouterr()]).upper()
    assert not [name for name in ("FEATHERSTON", "QX7301", "7301ZW", "55501") if name in text]


def test_an_identifier_of_an_unknown_kind_or_encoding_is_not_repeated(read, tmp_path):
    data = dicom()
    for old in (str(DigitalXRayImageStorageForPresentation), str(ExplicitVRLittleEndian)):
        (tmp_path / "odd.dcm").write_bytes(data.replace(old.encode(), b"Enhanced CT ANNE".ljust(len(old), b"x")))
        try:
            assert "ANNE" not in repr(read_case(tmp_path / "odd.dcm").header)
            read_radiograph(tmp_path / "odd.dcm")
        except RadiographError as error:
            assert "ANNE" not in str(error)


@pytest.mark.real
def test_real_files_of_both_polarities_show_bright_bone(real_data):
    gray = read_radiograph(real_data / "dicom" / "chest_mono1_10bit.dcm")
    twin = read_radiograph(real_data / "dicom" / "chest_10bit_display_polarity.png")
    assert np.corrcoef(gray.ravel(), twin.ravel())[0, 1] > 0.99
    assert read_radiograph(real_data / "dicom" / "chest_mono2_8bit_jpeg.dcm").shape == (1024, 1024)
