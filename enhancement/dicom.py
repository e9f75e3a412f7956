"""DICOM: one frame as its author meant it to be seen (PS3.3 C.11, PS3.4 N.2), and a header without its patient.

Names, numbers and dates of a patient are read to make a keyed hash and the age, and leave this module in no other form.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import os
import re
import secrets
import zlib
from dataclasses import dataclass, field
from itertools import chain, repeat
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.encaps import encapsulate, get_frame
from pydicom.filereader import _read_file_meta_info, read_preamble
from pydicom.pixels import apply_color_lut, get_decoder, pixel_array
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    RLELossless,
    UID_dictionary,
)

from enhancement.checks import Gray
from enhancement.dicom_values import LookupTable, decimals, optional, read_table, to_modality, values
from enhancement.errors import InputError, RadiographError, Refusal, one_line
from enhancement.raster import check_frames, luma
from enhancement.silence import silent_decoders
from enhancement.streams import check_scans, check_size, jpeg2000_size, jpeg_size, unpacked_size
from enhancement.windowing import NAMED, Window, apply_window, is_view

OLDEST_AGE = 89  # years; ages above are given as 90, as they alone can identify somebody

# 100 million pixels of 16 bits, and a third more: to unpack costs twice as much memory
_MOST_UNPACKED = 256 << 20
# Below are masks and overlays; PS3.3 (C.8.11.3) gives a digital radiograph 6 to 16. Of a damaged number black is left.
_FEWEST_BITS = 6
_COLOURS = ("Red", "Green", "Blue")
_PIXEL_TAGS = [
    *("SOPClassUID", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "Rows"),
    *("Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue"),
    *("WindowCenter", "WindowWidth", "WindowCenterWidthExplanation", "VOILUTFunction", "VOILUTSequence"),
    *("PixelPaddingRangeLimit", "RescaleIntercept", "RescaleSlope", "ModalityLUTSequence"),
    *("PixelData", "FloatPixelData", "DoubleFloatPixelData"),
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths", "ICCProfile", "PaletteColorLookupTableUID"),
    *(f"{colour}PaletteColorLookupTable{part}" for colour in _COLOURS for part in ("Descriptor", "Data")),
    *(f"Segmented{colour}PaletteColorLookupTableData" for colour in _COLOURS),
]
_HEADER_TAGS = [
    *("SOPClassUID", "Modality", "BodyPartExamined", "ViewPosition", "PhotometricInterpretation", "Rows", "Columns"),
    *("NumberOfFrames", "PatientID", "IssuerOfPatientID", "PatientName", "PatientSex", "PatientAge"),
    *("PatientBirthDate", "StudyDate", "AccessionNumber", "SOPInstanceUID", "StudyInstanceUID", "OtherPatientIDs"),
]
_LINKS = ("SOPInstanceUID", "StudyInstanceUID", "AccessionNumber", "PatientID")


def decode_dicom(data: bytes, window: Window, max_pixels: int) -> Gray:
    """Decode a DICOM file held in memory to display values ``uint8 [H, W]``, bone bright.

    `window` overrides the file's first VOI look-up or window: another of them, or numbers in units after the rescale.
    Raises `Refusal` if there are no pixels, several frames or too many pixels, or it is an enhanced CT or the like; and
    whatever pydicom raises on damaged files, whose text may quote a patient's name: it must not be shown.
    """
    with silent_decoders():
        return _decode(_parse(io.BytesIO(data), force=True, specific_tags=_PIXEL_TAGS), window, max_pixels)


def check_header(file: BinaryIO, max_pixels: int) -> None:
    """`Refusal` where the header alone shows that `decode_dicom` would refuse the file; its pixels are not read.

    Damage passes: what is wrong with a damaged file shows when it is read whole.
    """
    with silent_decoders():
        try:
            _check_header(_parse(file, force=True, stop_before_pixels=True, specific_tags=_PIXEL_TAGS), max_pixels)
        except Refusal:
            raise
        except Exception:
            return


def _parse(file: BinaryIO, force: bool = False, **options: Any) -> pydicom.Dataset:
    """`pydicom.dcmread`, for a deflated file only once it is known to unpack to a bearable size."""
    read_preamble(file, force)
    meta = _read_file_meta_info(file)
    if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        packed = iter(lambda: file.read(1 << 20), b"")
        if unpacked_size(packed, _MOST_UNPACKED, -zlib.MAX_WBITS) >= _MOST_UNPACKED:
            raise Refusal(f"DICOM file that unpacks to more than {_MOST_UNPACKED >> 20} MB")
    file.seek(0)
    return pydicom.dcmread(file, force=force, **options)


def _check_header(dataset: pydicom.Dataset, max_pixels: int) -> None:
    meta = getattr(dataset, "file_meta", None)
    kind = _uid_name(dataset.get("SOPClassUID")) or _uid_name(getattr(meta, "MediaStorageSOPClassUID", None))
    if kind.startswith(("Media Storage Directory", "Basic Directory")):
        raise Refusal("is a DICOMDIR, an index of other files; give it to a command that takes folders, or its folder")
    if kind.startswith(("Enhanced CT", "Enhanced MR", "Enhanced PET", "Legacy Converted Enhanced")):
        raise Refusal(f"is of the kind {kind}; one projection radiograph expected")
    if not dataset.get("Columns") and not dataset.get("Rows"):
        raise Refusal("DICOM file without pixels (truncated, or no image)")
    check_size(int(dataset.get("Columns") or 0), int(dataset.get("Rows") or 0), max_pixels)
    check_frames(int(dataset.get("NumberOfFrames") or 1))


def _decode(dataset: pydicom.Dataset, window: Window, max_pixels: int) -> Gray:
    _check_header(dataset, max_pixels)
    if not any(keyword in dataset for keyword in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise Refusal("DICOM file without pixels (truncated, or no image)")
    allocated, bits = (int(dataset.get(keyword) or 0) for keyword in ("BitsAllocated", "BitsStored"))
    if dataset.get("BitsStored") is not None and bits < _FEWEST_BITS < allocated:
        raise Refusal(f"damaged DICOM file (it says that {bits} of {allocated} bits a pixel are used)")
    syntax = _syntax(dataset)
    name = _uid_name(syntax) or "unknown"
    missing = (
        f"DICOM encoding '{name}' cannot be decoded here (no decoder for it is installed); "
        "pip install '.[dicom]', or convert the file to an uncompressed transfer syntax"
    )
    if syntax.is_encapsulated and not _decodable(syntax):
        raise Refusal(missing)
    _check_stream(dataset, syntax)
    try:
        stored = _stored(dataset, syntax)
    except RuntimeError as error:
        if re.search("with 12-bit precision|-bit multi-sample", str(error)):  # of which Pillow reads 8 bits alone
            raise Refusal(missing) from None
        _check_end(dataset, syntax)
        raise Refusal(f"damaged DICOM file (its {name} pixels cannot be decoded)") from None
    _check_end(dataset, syntax)
    if syntax == JPEGBaseline8Bit:

        def decode(stream: bytes) -> NDArray[Any]:
            dataset.PixelData = encapsulate([stream])
            return _stored(dataset, syntax)

        check_scans(_frame(dataset), stored, decode)
    photometric = dataset.get("PhotometricInterpretation", "MONOCHROME2")
    if photometric == "PALETTE COLOR":
        stored = apply_color_lut(stored, dataset)
    if stored.ndim == 3:
        if is_view(window):
            raise Refusal(f"window: {window} requested, and a colour image has none")
        # A palette's entries fill their 16 bits, whatever the depth of the pixels that point to them.
        bits = 16 if photometric == "PALETTE COLOR" else int(dataset.BitsStored)
        return luma(stored if stored.dtype == np.uint8 else (stored >> max(0, bits - 8)).astype(np.uint8))
    if stored.ndim != 2:
        raise Refusal(f"holds pixels of shape {stored.shape}; one gray or colour image expected")
    padding = _padding(stored, dataset)
    gray = _display(stored, dataset, window, padding)
    # Numbers that the caller gives may lie beside all pixels; those of a header are meant to show them.
    if not isinstance(window, tuple):
        _check_levels(gray, stored, padding)
    if photometric == "MONOCHROME1":
        gray = 255 - gray
    if padding is not None:
        gray[padding] = 0
    return np.ascontiguousarray(gray)


def _check_levels(gray: Gray, stored: NDArray[Any], padding: NDArray[np.bool_] | None) -> None:
    """Refuse a picture of one grey level where the stored pixels differ."""
    if gray.min() == gray.max():
        pixels = stored if padding is None else stored[~padding]
        if pixels.min() < pixels.max():
            raise Refusal("damaged DICOM file (the header's rescale or window leaves one grey level)")


def _frame(dataset: pydicom.Dataset) -> bytes:
    try:
        return get_frame(dataset.PixelData, 0, number_of_frames=1)
    except Exception:
        raise Refusal("damaged DICOM file (its pixels are not divided into frames as they should be)") from None


def _check_stream(dataset: pydicom.Dataset, syntax: pydicom.uid.UID) -> None:
    """Refuse a compressed stream that declares another size than the header: a decoder goes by the stream."""
    if not syntax.is_encapsulated or syntax == RLELossless:
        return
    for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):  # would show the decoder other bytes
        if keyword in dataset:
            del dataset[keyword]
    stream = _frame(dataset)
    size = jpeg_size(stream)[:2] if stream.startswith(b"\xff\xd8") else jpeg2000_size(stream)
    if size != (dataset.Columns, dataset.Rows):
        raise Refusal("damaged DICOM file (its header and its compressed pixels differ in size)")


def _decodable(syntax: pydicom.uid.UID) -> bool:
    try:
        return get_decoder(syntax).is_available
    except NotImplementedError:
        return False


def _syntax(dataset: pydicom.Dataset) -> pydicom.uid.UID:
    """The transfer syntax; where the file does not give it, the one that pydicom recognised when it read the file."""
    meta = dataset.file_meta
    if not meta.get("TransferSyntaxUID"):
        implicit, little = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    return meta.TransferSyntaxUID


def _check_end(dataset: pydicom.Dataset, syntax: pydicom.uid.UID) -> None:
    """Refuse a frame of the JPEG family without its end marker: some decoders fill in what is missing."""
    name = _uid_name(syntax)
    jpeg = name.startswith(("JPEG", "High-Throughput JPEG")) and syntax.is_encapsulated
    if jpeg and "PixelData" in dataset and b"\xff\xd9" not in _frame(dataset)[-4096:]:
        raise Refusal(f"truncated DICOM file (its {name} frame has no end marker)")


def _stored(dataset: pydicom.Dataset, syntax: Any) -> NDArray[Any]:
    """Stored values, shifted down where they do not begin at the lowest bit; pydicom takes the lowest bits always."""
    # A codec keeps the values alone, whatever HighBit says.
    in_place = syntax is None or syntax == RLELossless or not syntax.is_encapsulated
    bits, high = dataset.get("BitsStored"), dataset.get("HighBit")
    shift = 0 if bits is None or high is None else int(high) + 1 - int(bits)
    if not in_place or shift <= 0 or int(high) >= int(dataset.get("BitsAllocated") or 0):
        return pixel_array(dataset)
    dataset.BitsStored = int(high) + 1
    stored = pixel_array(dataset) >> shift
    dataset.BitsStored = int(bits)
    return stored


def _display(stored: NDArray[Any], dataset: pydicom.Dataset, window: Window, padding: NDArray[np.bool_] | None) -> Gray:
    shown = to_modality(stored, dataset)
    view = _choose(dataset, window) if window is None or is_view(window) else None
    if view is not None and view.table is not None:
        return apply_window(view.table.apply(shown), (0.0, float(view.table.white)))
    # A rescale by whole numbers is windowed by table; beyond 2^53 there are gaps between floats, and int64 overflows.
    if shown.dtype.kind == "f" and max(-shown.min(), shown.max()) < 2**53 and np.array_equal(shown, np.rint(shown)):
        shown = shown.astype(np.int64)
    if view is not None and view.window is not None:
        return _apply_voi_window(shown, str(optional(dataset, "VOILUTFunction") or "LINEAR"), *view.window)
    # Values of 8 bits are shown as they are, in whatever width they are stored.
    if window is None and shown is stored and dataset.BitsStored <= 8 and shown.min() >= 0 and shown.max() <= 255:
        return shown.astype(np.uint8)
    return apply_window(shown, window, None if padding is None else ~padding)


def _padding(stored: NDArray[Any], dataset: pydicom.Dataset) -> NDArray[np.bool_] | None:
    first, last = optional(dataset, "PixelPaddingValue"), optional(dataset, "PixelPaddingRangeLimit")
    if not isinstance(first, int):
        return None
    low, high = sorted((first, last if isinstance(last, int) else first))
    padding = (stored >= low) & (stored <= high)
    # An image that is padding all over has nothing else to be seen: show it as it is.
    return padding if padding.any() and not padding.all() else None


@dataclass(frozen=True)
class _View:
    """One look-up table or window of a file (PS3.3 C.11.2) and its name; neither of them where it cannot be used."""

    name: str
    kind: str = "window"
    table: LookupTable | None = None
    window: tuple[float, float] | None = None  # centre, width

    @property
    def usable(self) -> bool:
        return self.table is not None or self.window is not None


def _choose(dataset: pydicom.Dataset, request: int | str | None) -> _View | None:
    """The view requested; by default the first that can be used, or None where there is none."""
    tables = optional(dataset, "VOILUTSequence") or ()
    offered = [_View(one_line(optional(t, "LUTExplanation") or ""), "table", read_table(t)) for t in tables]
    centers, widths = (decimals(dataset, keyword) for keyword in ("WindowCenter", "WindowWidth"))
    names = [one_line(name or "") for name in values(optional(dataset, "WindowCenterWidthExplanation"))]
    linear = (optional(dataset, "VOILUTFunction") or "LINEAR") == "LINEAR"
    # Explanations may be fewer than windows; a window without one can be had by its number.
    for center, width, name in zip(centers, widths, chain(names, repeat("")), strict=False):
        usable = np.isfinite([center, width]).all() and (width >= 1 or (width > 0 and not linear))
        offered.append(_View(name, window=(center, width) if usable else None))
    if request is None:
        return next((view for view in offered if view.usable), None)
    if isinstance(request, int):
        chosen = offered[request - 1] if request <= len(offered) else None
    else:
        name = request.removeprefix(NAMED).strip().casefold()
        chosen = next((view for view in offered if view.name.casefold() == name), None)
    parts = []
    for number, view in enumerate(offered, 1):
        # An explanation is free text and may hold anything, a name too: only the words in use are repeated.
        usual = view.name and set(view.name.upper().split()) <= _USUAL_WORDS
        parts.append(f"{number} {view.kind}" + (f" '{view.name}'" if usual else ""))
    there = f"the file has {', '.join(parts)}" if parts else "the file brings no window and no look-up table along"
    if chosen is None:
        raise Refusal(f"window: {request} requested; {there}")
    if not chosen.usable:
        lacks = "no width or no number" if chosen.kind == "window" else "no entries that can be used"
        raise Refusal(f"window: {request} requested, which has {lacks}; {there}")
    return chosen


_USUAL_WORDS = frozenset(
    re.findall(
        r"\w+",
        "NORMAL STANDARD DEFAULT HARD HARDER SOFT SOFTER BONE BONES LUNG LUNGS CHEST THORAX TISSUE MEDIASTINUM RIB "
        "RIBS SPINE USER AUTO LINEAR SIGMOID LUT VOI WINDOW WIDE NARROW BRIGHT DARK LOW MEDIUM HIGH CONTRAST 1 2 3 4 5 "
        "6 7 8 9 WINDOW1 WINDOW2 WINDOW3 ALGO1 ALGO2 ALGO3",
    )
)


def _apply_voi_window(values: NDArray[Any], function: str, center: float, width: float) -> Gray:
    """Pixels after the rescale, as a window of the file shows them (PS3.3 C.11.2.1.2 and C.11.2.1.3), to 0..255."""
    if function == "SIGMOID":
        with np.errstate(over="ignore"):
            return np.rint(255 / (1 + np.exp(-4 * (values.astype(np.float64) - center) / width))).astype(np.uint8)
    if function == "LINEAR_EXACT":
        low, high = center - width / 2, center + width / 2
    else:  # the standard's LINEAR counts pixel values: width 1 is a threshold
        low, high = center - 0.5 - (width - 1) / 2, center - 0.5 + (width - 1) / 2
    if low == high:
        return np.where(values > low, 255, 0).astype(np.uint8)
    return apply_window(values, (low, high))


@dataclass(frozen=True)
class Header:
    """A DICOM file without its pixels and without its patient; text as in the file, upper case where that is usual."""

    modality: str = ""
    body_part: str = ""
    view: str = ""
    photometric: str = ""
    kind: str = ""  # name of the SOP class
    syntax: str = ""
    width: int = 0  # this and the next are 0 where not given
    height: int = 0
    frames: int = 1
    sex: str = ""  # F, M or empty
    age: float | None = None  # years; 90 for everybody above 89
    patient: str = ""  # keyed hash of the patient's id, 16 hexadecimal digits; empty without id or key


@dataclass(frozen=True)
class Case:
    """A header, and what identifies its patient: to be compared in memory and forgotten, never written or shown."""

    header: Header  # what may be passed on
    # Id, names and accession number in lower case, of four letters and more.
    words: frozenset[str] = field(default=frozenset(), repr=False)
    # Values by which a hospital's list may name the file, keys as in _LINKS but in lower case.
    links: dict[str, str] = field(default_factory=dict, repr=False)


def read_case(path: str | os.PathLike[str], key: bytes | None = None) -> Case:
    """Read the header of one file; `key` makes the patient's hash, see `patient_key`.

    Raises `RadiographError` if it is no DICOM file or is damaged. The message never quotes the header.
    """
    with silent_decoders():
        return _read_case(path, key)


def _read_case(path: str | os.PathLike[str], key: bytes | None) -> Case:
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            raise RadiographError(path, "is no regular file")
        with open(path, "rb") as file:
            dataset = _parse(file, force=True, stop_before_pixels=True, specific_tags=_HEADER_TAGS)
        if not {"SOPClassUID", "Modality", "Rows"} & set(dataset.dir()):  # any file may be read by force
            raise ValueError
    except RadiographError:
        raise
    except Refusal as refusal:
        raise RadiographError(path, str(refusal)) from None
    except FileNotFoundError:
        raise RadiographError(path, "no such file") from None
    except OSError as error:
        raise RadiographError(path, f"cannot be opened ({error.strerror or type(error).__name__})") from None
    except Exception:
        raise RadiographError(path, "is no DICOM file, or its header is damaged") from None
    try:
        links = {name.lower(): str(dataset.get(name) or "").strip() for name in _LINKS}
        # Words that identify the patient; those of three letters and fewer would be found everywhere.
        words = {str(dataset.get("PatientID") or ""), str(dataset.get("AccessionNumber") or "")}
        words |= set(str(dataset.get("PatientName") or "").replace("^", " ").replace("=", " ").split())
        words = {word.strip().lower() for word in words if len(word.strip()) > 3}
        return Case(_header(dataset, key), frozenset(words), links)
    except Exception:  # whatever a hostile header holds, its words stay here
        raise RadiographError(path, "its DICOM header is damaged") from None


def patient_key(path: str | os.PathLike[str]) -> bytes:
    """The key of patient hashes in a file, made (32 random bytes, readable by its owner alone) where there is none.

    Whoever has the key and a list of ids can undo the hash: keep it apart from what is passed on.
    """
    path = Path(path)
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
                file.write(secrets.token_hex(32) + "\n")
        key = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: no key of patient hashes can be read or made there ({type(error).__name__})"
        ) from None
    if len(key) < 16:
        raise InputError(f"{path}: holds a key of {len(key)} bytes; 16 or more expected")
    return key


def files_of_dicomdir(path: str | os.PathLike[str]) -> list[Path]:
    """Images that a DICOMDIR lists, as paths beside it, missing ones included; `RadiographError` if it is no
    DICOMDIR.
    """
    path = Path(path)
    try:
        with silent_decoders():
            with open(path, "rb") as index:
                records = _parse(index).DirectoryRecordSequence
            images = [r for r in records if r.get("DirectoryRecordType") == "IMAGE" and "ReferencedFileID" in r]
            names = [record.ReferencedFileID for record in images]
    except Exception:
        raise RadiographError(path, "is no DICOMDIR that can be read") from None
    files = []
    for name in names:
        parts = [name] if isinstance(name, str) else [str(part) for part in name]
        if any(part in ("", ".", "..") or "/" in part or "\\" in part for part in parts):
            continue  # a medium's files lie below its index
        file = path.parent.joinpath(*parts)
        lower = path.parent.joinpath(*(part.lower() for part in parts))
        files.append(lower if not file.exists() and lower.exists() else file)
    return files


def _header(dataset: pydicom.Dataset, key: bytes | None) -> Header:
    def text(name: str) -> str:
        return str(dataset.get(name) or "").strip().upper()

    number = str(dataset.get("PatientID") or "").strip()
    patient = ""
    if key is not None and number:
        whole = f"{str(dataset.get('IssuerOfPatientID') or '').strip()}\0{number}"
        patient = hmac.new(key, whole.encode(), hashlib.sha256).hexdigest()[:16]
    return Header(
        text("Modality"),
        text("BodyPartExamined"),
        text("ViewPosition"),
        text("PhotometricInterpretation"),
        _uid_name(dataset.get("SOPClassUID")),
        _uid_name(dataset.file_meta.get("TransferSyntaxUID")),
        int(dataset.get("Columns") or 0),
        int(dataset.get("Rows") or 0),
        int(dataset.get("NumberOfFrames") or 1),
        text("PatientSex")[:1] if text("PatientSex")[:1] in ("F", "M") else "",
        _age(dataset),
        patient,
    )


def _uid_name(uid: Any) -> str:
    # pydicom's UID.name gives back what it does not know, which may be any text.
    return UID_dictionary.get(str(uid), ("",))[0]


def _age(dataset: pydicom.Dataset) -> float | None:
    text = str(dataset.get("PatientAge") or "").strip().upper()
    digits = "".join(c for c in text if c.isdigit())
    age = None
    if digits:
        age = float(digits) / {"D": 365.25, "W": 52.18, "M": 12.0}.get(text[-1:], 1.0)
    else:
        born, studied = (str(dataset.get(k) or "").replace(".", "")[:8] for k in ("PatientBirthDate", "StudyDate"))
        if len(born) == len(studied) == 8 and born.isdigit() and studied.isdigit():
            age = float((int(studied) - int(born)) // 10000)
    if age is None or not 0 <= age <= 120:
        return None
    return 90.0 if age > OLDEST_AGE else round(age, 2)
