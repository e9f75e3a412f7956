"""The views that a DICOM file offers of its pixels (PS3.3 C.11.2): look-up tables first, then windows, from 1 on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.pixels import apply_voi

from enhancement.checks import Gray
from enhancement.errors import Refusal
from enhancement.windowing import NAMED, apply_window

TAGS = ("WindowCenter", "WindowWidth", "WindowCenterWidthExplanation", "VOILUTFunction", "VOILUTSequence")


@dataclass(frozen=True)
class View:
    """One look-up table or one window.

    Parameters
    ----------
    name : str
        The file's own word for it, "" where it has none.
    table : int or None
        Which item of the file's look-up tables; None for a window.
    window : (float, float) or None
        Centre and width in units after the rescale; None for a table, and for a window that is none.
    """

    name: str
    table: int | None = None
    window: tuple[float, float] | None = None


def views(dataset: pydicom.Dataset) -> list[View]:
    """All that the file offers, in its order, windows with impossible numbers included."""
    tables = dataset.get("VOILUTSequence") or ()
    found = [View(_text(item.get("LUTExplanation")), table=i) for i, item in enumerate(tables)]
    centers, widths = (_values(dataset.get(keyword)) for keyword in ("WindowCenter", "WindowWidth"))
    names = _values(dataset.get("WindowCenterWidthExplanation"))
    linear = (dataset.get("VOILUTFunction") or "LINEAR") == "LINEAR"
    for i, (center, width) in enumerate(zip(map(float, centers), map(float, widths), strict=False)):
        usable = np.isfinite([center, width]).all() and (width >= 1 or (width > 0 and not linear))
        found.append(View(_text(names[i]) if i < len(names) else "", window=(center, width) if usable else None))
    return found


def choose(dataset: pydicom.Dataset, wanted: int | str | None) -> View | None:
    """The view asked for; by default the first, or None where there is none or its numbers are impossible.

    Raises
    ------
    Refusal
        If the file has no such view, or one that cannot be used.
    """
    offered = views(dataset)
    if wanted is None:
        first = offered[0] if offered else View("")
        return first if first.table is not None or first.window is not None else None
    if isinstance(wanted, int):
        chosen = offered[wanted - 1] if wanted <= len(offered) else None
    else:
        name = wanted.removeprefix(NAMED).strip().casefold()
        chosen = next((view for view in offered if view.name.casefold() == name), None)
    if chosen is None:
        raise Refusal(f"window: {wanted} asked for; {_told(offered)}")
    if chosen.table is None and chosen.window is None:
        raise Refusal(f"window: {wanted} asked for, which has no width or no number; {_told(offered)}")
    return chosen


def apply_view(values: NDArray[Any], dataset: pydicom.Dataset, view: View) -> Gray:
    """Pixels after the rescale, as the view shows them."""
    if view.table is not None:
        bits = int(dataset.VOILUTSequence[view.table].LUTDescriptor[2])
        return apply_window(apply_voi(values, dataset, index=view.table), (0.0, float(2**bits - 1)))
    if view.window is None:
        raise ValueError("a view without table and window")
    return _apply_own_window(values, *view.window, str(dataset.get("VOILUTFunction") or "LINEAR"))


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


def _told(offered: list[View]) -> str:
    if not offered:
        return "the file brings no window and no look-up table along"
    parts = []
    for number, view in enumerate(offered, 1):
        kind = "window" if view.table is None else "table"
        # an explanation is free text and may hold anything, a name too: only the words in use are repeated
        said = f" '{view.name}'" if view.name and set(view.name.upper().split()) <= _WORDS else ""
        parts.append(f"{number} {kind}{said}")
    return f"the file has {', '.join(parts)}"


_WORDS = frozenset(
    re.findall(
        r"\w+",
        "NORMAL STANDARD DEFAULT HARD HARDER SOFT SOFTER BONE BONES LUNG LUNGS CHEST THORAX TISSUE MEDIASTINUM RIB "
        "RIBS SPINE USER AUTO LINEAR SIGMOID LUT VOI WINDOW WIDE NARROW BRIGHT DARK LOW MEDIUM HIGH CONTRAST 1 2 3 4 5 "
        "6 7 8 9 WINDOW1 WINDOW2 WINDOW3 ALGO1 ALGO2 ALGO3",
    )
)


def _values(value: Any) -> list[Any]:
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, (list, pydicom.multival.MultiValue)) else [value]


def _text(value: Any) -> str:
    return " ".join(str(value or "").split())
