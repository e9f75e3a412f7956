"""DICOM: one frame, from stored values to the gray that the file's author meant to be seen (PS3.3 C.11, PS3.4 N.2)."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.pixels import apply_color_lut, apply_modality_lut, pixel_array
from pydicom.uid import RLELossless

from enhancement.checks import Gray
from enhancement.errors import Refusal
from enhancement.raster import check_frames, check_size, luma
from enhancement.voi import TAGS, apply_view, choose
from enhancement.windowing import Window, apply_window, is_view


def decode_dicom(data: bytes, window: Window, max_pixels: int) -> Gray:
    """Decode a DICOM file held in memory to display values, bone bright.

    Parameters
    ----------
    data : bytes
        The whole file.
    window : Window
        Overrides the file's first VOI look-up or window where it is not None: another of them, or numbers in units
        after the rescale.
    max_pixels : int
        Refused above, before pixels are decoded.

    Returns
    -------
    numpy.ndarray
        ``uint8 [H, W]``.

    Raises
    ------
    Refusal
        If there are no pixels, several frames or too many pixels, or it is an enhanced CT or the like.
    Exception
        Whatever pydicom raises on damaged files.
    """
    # nothing about the patient is parsed, so nothing about the patient can reach a message
    dataset = pydicom.dcmread(io.BytesIO(data), force=True, specific_tags=list(_NEEDED))
    _refuse_other_kinds(dataset)
    if not any(keyword in dataset for keyword in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise Refusal("DICOM file without pixels (truncated, or no image)")
    check_size(int(dataset.get("Columns") or 0), int(dataset.get("Rows") or 0), max_pixels)
    check_frames(int(dataset.get("NumberOfFrames") or 1))
    try:
        stored = _stored(dataset)
    except RuntimeError as error:  # no decoder for this encoding
        raise Refusal(_undecodable(dataset, error)) from error
    photometric = dataset.get("PhotometricInterpretation", "MONOCHROME2")
    if photometric == "PALETTE COLOR":
        stored = apply_color_lut(stored, dataset)
    if stored.ndim == 3:
        if is_view(window):
            raise Refusal(f"window: {window} asked for, and a colour image has none")
        # A palette's entries fill their 16 bits, whatever the depth of the pixels that point to them.
        bits = 16 if photometric == "PALETTE COLOR" else int(dataset.BitsStored)
        return luma(_eight_bits(stored, bits))
    if stored.ndim != 2:
        raise Refusal(f"holds pixels of shape {stored.shape}; one gray or colour image expected")
    padding = _padding(stored, dataset)
    gray = _display(stored, dataset, window, padding)
    if photometric == "MONOCHROME1":
        gray = 255 - gray
    if padding is not None:
        gray[padding] = 0
    return np.ascontiguousarray(gray)


_NEEDED = (
    *("SOPClassUID", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "Rows"),
    *("Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue"),
    *TAGS,
    *("PixelPaddingRangeLimit", "RescaleIntercept", "RescaleSlope", "ModalityLUTSequence"),
    *("PixelData", "FloatPixelData", "DoubleFloatPixelData"),
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths", "ICCProfile", "PaletteColorLookupTableUID"),
    *(
        f"{colour}PaletteColorLookupTable{part}"
        for colour in ("Red", "Green", "Blue")
        for part in ("Descriptor", "Data")
    ),
    *(f"Segmented{colour}PaletteColorLookupTableData" for colour in ("Red", "Green", "Blue")),
)


def _refuse_other_kinds(dataset: pydicom.Dataset) -> None:
    kind = getattr(dataset.get("SOPClassUID"), "name", "")
    meta = getattr(dataset, "file_meta", None)
    kind = kind or getattr(getattr(meta, "MediaStorageSOPClassUID", None), "name", "")
    if kind.startswith(("Media Storage Directory", "Basic Directory")):
        raise Refusal("is a DICOMDIR, an index of other files; give it to a command that takes folders, or its folder")
    if kind.startswith(("Enhanced CT", "Enhanced MR", "Enhanced PET", "Legacy Converted Enhanced")):
        raise Refusal(f"is of the kind {kind}; one projection radiograph expected")


def _stored(dataset: pydicom.Dataset) -> NDArray[Any]:
    """Stored values, shifted down where they do not begin at the lowest bit; pydicom takes the lowest bits always."""
    meta = getattr(dataset, "file_meta", None)
    syntax = getattr(meta, "TransferSyntaxUID", None)
    # a codec keeps the values alone, whatever HighBit says
    in_place = syntax is None or syntax == RLELossless or not syntax.is_encapsulated
    bits, high = dataset.get("BitsStored"), dataset.get("HighBit")
    shift = 0 if bits is None or high is None else int(high) + 1 - int(bits)
    if not in_place or shift <= 0 or int(high) >= int(dataset.get("BitsAllocated") or 0):
        return pixel_array(dataset)
    dataset.BitsStored = int(high) + 1
    stored = pixel_array(dataset) >> shift
    dataset.BitsStored = int(bits)
    return stored


def _eight_bits(colour: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    if colour.dtype == np.uint8:
        return colour
    return (colour >> max(0, bits - 8)).astype(np.uint8)


def _display(stored: NDArray[Any], dataset: pydicom.Dataset, window: Window, padding: NDArray[np.bool_] | None) -> Gray:
    values = np.asarray(apply_modality_lut(stored, dataset))
    view = choose(dataset, window if is_view(window) else None) if window is None or is_view(window) else None
    if view is not None:
        return apply_view(values, dataset, view)
    if window is None and values.dtype == np.uint8:
        return values.copy()
    if values.dtype.kind == "f" and np.array_equal(values, np.rint(values)):
        values = values.astype(np.int64)  # a rescale by whole numbers; windowed by table
    return apply_window(values, window, None if padding is None else ~padding)


def _padding(stored: NDArray[Any], dataset: pydicom.Dataset) -> NDArray[np.bool_] | None:
    first = dataset.get("PixelPaddingValue")
    if not isinstance(first, int):
        return None
    last = dataset.get("PixelPaddingRangeLimit", first)
    low, high = sorted((first, last if isinstance(last, int) else first))
    padding = (stored >= low) & (stored <= high)
    # An image that is padding all over has nothing else to be seen: show it as it is.
    return padding if padding.any() and not padding.all() else None


def _undecodable(dataset: pydicom.Dataset, error: Exception) -> str:
    meta = getattr(dataset, "file_meta", None)
    syntax = getattr(meta, "TransferSyntaxUID", None)
    name = getattr(syntax, "name", syntax)
    return (
        f"DICOM encoding '{name}' cannot be decoded here ({str(error).splitlines()[0]}); "
        "pip install 'covidcxnet[dicom]', or convert the file to an uncompressed transfer syntax"
    )
