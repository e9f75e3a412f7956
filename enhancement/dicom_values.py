"""Optional DICOM elements read leniently: numbers as text, look-up tables (PS3.3 C.11.1, C.11.2) and the rescale.

Devices fill these elements with empty values, words and decimal commas; what cannot be used is passed over.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray

from enhancement.errors import Refusal


@dataclass(frozen=True)
class LookupTable:
    """Entries of a modality or VOI look-up table."""

    entries: NDArray[np.uint16]
    first: int  # the pixel value that reads the first entry
    white: int  # the entry that stands for white

    def apply(self, values: NDArray[Any]) -> NDArray[np.uint16]:
        """The entry of each value; values beyond either end read the end's entry."""
        if values.dtype.kind == "f":
            values = np.rint(np.clip(values, -(2**31), 2**31))
        first = self.first
        # A negative first value is at times written as an unsigned one.
        if first >= 2**15 and values.max() < first:
            first -= 2**16
        return self.entries[np.clip(values.astype(np.int64) - first, 0, len(self.entries) - 1)]


def read_table(item: pydicom.Dataset) -> LookupTable | None:
    """The table in an item of a sequence; None where its descriptor or its entries are missing or contradictory."""
    descriptor, data = optional(item, "LUTDescriptor"), optional(item, "LUTData")
    try:
        count, first, bits = (int(number) for number in descriptor)
        # Words in the order of the file's bytes are numbers already, unless the element came as bytes.
        order = "<" if item.original_encoding[1] is not False else ">"
        if isinstance(data, bytes):
            words = np.frombuffer(data[: len(data) // 2 * 2], order + "u2")
        else:
            words = np.atleast_1d(data).astype(np.uint16)
    except (TypeError, ValueError, OverflowError):
        return None
    count = count or 2**16
    if bits <= 8 and len(words) == (count + 1) // 2 and count > 1:  # two entries of 8 bits in a word, the lower first
        words = words.astype("<u2").view(np.uint8)
    if not 1 <= bits <= 16 or len(words) < count:
        return None
    entries = words[:count].astype(np.uint16)
    # 16 is often the width of the word and not the depth of the entries; and some entries exceed a lower depth.
    depth = int(entries.max()).bit_length()
    return LookupTable(entries, first, 2 ** (max(depth, 1) if bits == 16 or depth > bits else bits) - 1)


def to_modality(stored: NDArray[Any], dataset: pydicom.Dataset) -> NDArray[Any]:
    """Stored values after the modality look-up table or the rescale; the same array where there is none.

    A rescale by slope 1 and intercept 0 says nothing and changes nothing, not even the type.
    """
    items: Any = optional(dataset, "ModalityLUTSequence") or ()
    if len(items) and "LUTData" in items[0]:
        table = read_table(items[0])
        if table is None:
            raise Refusal("damaged DICOM file (its modality look-up table cannot be used)")
        return table.apply(stored)
    slope, intercept = (next(iter(decimals(dataset, key)), math.nan) for key in ("RescaleSlope", "RescaleIntercept"))
    # Slope 0 would make all pixels equal.
    slope = slope if math.isfinite(slope) and slope != 0 else 1.0
    intercept = intercept if math.isfinite(intercept) else 0.0
    if (slope, intercept) == (1.0, 0.0):
        return stored
    if math.isinf(abs(slope) * max(abs(float(stored.min())), abs(float(stored.max()))) + abs(intercept)):
        raise Refusal("damaged DICOM file (the header's rescale makes numbers too large)")
    return stored.astype(np.float64) * slope + intercept


def optional(dataset: pydicom.Dataset, keyword: str) -> Any:
    """The value of an element; None where it is not there, empty or impossible to read."""
    try:
        value = dataset.get(keyword)
    except Exception:  # pydicom converts a value when it is first read
        return None
    return None if value == "" else value


def decimals(dataset: pydicom.Dataset, keyword: str) -> list[float]:
    """Numbers of an element of decimal strings, a comma read as a point; NaN for each that is no number."""
    element = dataset.get_item(keyword)
    value = getattr(element, "value", None)
    if isinstance(value, bytes):  # not yet converted, which would fail for the whole element
        value = value.decode("ascii", "replace").split("\\")
    return [_decimal(part) for part in values(value)]


def values(value: Any) -> list[Any]:
    """The values of an element as a list, empty for an empty one."""
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, (list, pydicom.multival.MultiValue)) else [value]


def _decimal(text: Any) -> float:
    try:
        return float(str(text).strip(" \0").replace(",", "."))
    except ValueError:
        return math.nan
