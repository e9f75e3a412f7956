"""DICOM: one frame, from stored values to the gray that the file's author meant to be seen (PS3.3 C.11, PS3.4 N.2)."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi, pixel_array
from pydicom.uid import RLELossless

from enhancement.checks import Gray
from enhancement.errors import Refusal
from enhancement.raster import check_frames, check_size, luma
from enhancement.windowing import Window, apply_window


def decode_dicom(data: bytes, window: Window, max_pixels: int) -> Gray:
    """Decode a DICOM file held in memory to display values, bone bright.

    Parameters
    ----------
    data : bytes
        The whole file.
    window : Window
        Overrides the file's own VOI look-up or window where it is not None; in units after the rescale.
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
        return luma(_eight_bits(stored, int(dataset.BitsStored)))
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
    *("PixelPaddingRangeLimit", "WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence", "RescaleIntercept"),
    *("RescaleSlope", "ModalityLUTSequence", "PixelData", "FloatPixelData", "DoubleFloatPixelData"),
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
    # A palette's entries fill their 16 bits, whatever the depth of the pixels that point to them.
    return (colour >> (bits - 8 if bits > 8 else 8)).astype(np.uint8)


def _display(stored: NDArray[Any], dataset: pydicom.Dataset, window: Window, padding: NDArray[np.bool_] | None) -> Gray:
    values = np.asarray(apply_modality_lut(stored, dataset))
    if window is None and dataset.get("VOILUTSequence"):
        bits = int(dataset.VOILUTSequence[0].LUTDescriptor[2])
        return apply_window(apply_voi(values, dataset), (0.0, float(2**bits - 1)))
    if window is None and (given := _own_window(dataset)):
        return _apply_own_window(values, *given, str(dataset.get("VOILUTFunction") or "LINEAR"))
    if window is None and values.dtype == np.uint8:
        return values.copy()
    if values.dtype.kind == "f" and np.array_equal(values, np.rint(values)):
        values = values.astype(np.int64)  # a rescale by whole numbers; windowed by table
    return apply_window(values, window, None if padding is None else ~padding)


def _own_window(dataset: pydicom.Dataset) -> tuple[float, float] | None:
    centers, widths = (_numbers(dataset.get(keyword)) for keyword in ("WindowCenter", "WindowWidth"))
    if not centers or not widths or not np.isfinite([centers[0], widths[0]]).all():
        return None
    linear = (dataset.get("VOILUTFunction") or "LINEAR") == "LINEAR"
    return (centers[0], widths[0]) if widths[0] >= 1 or (widths[0] > 0 and not linear) else None


def _numbers(value: Any) -> list[float]:
    if value is None or value == "":
        return []
    return [float(number) for number in (value if isinstance(value, (list, pydicom.multival.MultiValue)) else [value])]


def _apply_own_window(values: NDArray[Any], center: float, width: float, function: str) -> Gray:
    """PS3.3 C.11.2.1.2 and C.11.2.1.3, to 0..255."""
    if function == "SIGMOID":
        with np.errstate(over="ignore"):
            return np.rint(255 / (1 + np.exp(-4 * (values.astype(np.float64) - center) / width))).astype(np.uint8)
    if function == "LINEAR_EXACT":
        low, high = center - width / 2, center + width / 2
    else:  # the standard's LINEAR counts pixel values: width 1 is a threshold
        low, high = center - 0.5 - (width - 1) / 2, center - 0.5 + (width - 1) / 2
    if low == high:
        return np.where(values > low, 255, 0).astype(np.uint8)
    if values.dtype.kind == "f" and np.array_equal(values, np.rint(values)):
        values = values.astype(np.int64)
    return apply_window(values, (low, high))


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
