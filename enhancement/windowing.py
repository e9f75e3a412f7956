"""Windowing: pixels deeper than 8 bits brought down to the 256 grey levels that the rest works on."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any, Literal, TypeGuard, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from enhancement.checks import Gray
from enhancement.errors import InputError, Refusal

Window = Literal["robust", "full"] | tuple[float, float] | int | str | None
NAMED = "named:"

# Half a percent at each end: burned-in letters and dead pixels lie outside, lungs and bones inside.
ROBUST_PERCENTILES = (0.5, 99.5)


def check_window(window: Any) -> Window:
    """Return a valid window setting, numbers as floats, or raise `InputError`."""
    if window is None or (isinstance(window, str) and window in ("robust", "full")):
        return cast(Window, window)
    if isinstance(window, (tuple, list)) and len(window) == 2 and all(isinstance(n, Real) for n in window):
        low, high = float(window[0]), float(window[1])
        if math.isfinite(low) and math.isfinite(high) and low < high:
            return low, high
    if isinstance(window, int) and not isinstance(window, bool) and window >= 1:
        return window
    if isinstance(window, str) and window.startswith(NAMED) and window.removeprefix(NAMED).strip():
        return window
    raise InputError(
        f"window: {window!r} given; 'robust', 'full', (low, high) with low < high, or for one of a DICOM file's own "
        f"windows its number from 1 or '{NAMED}' and its explanation expected"
    )


def is_view(window: Window) -> TypeGuard[int | str]:
    """Whether it names one of a DICOM file's own windows or look-up tables."""
    return isinstance(window, int) or (isinstance(window, str) and window.startswith(NAMED))


def apply_window(values: NDArray[Any], window: Window = "robust", valid: NDArray[np.bool_] | None = None) -> Gray:
    """Map a range of pixel values linearly to 0..255, rounded, ``uint8 [H, W]``; what lies outside is cut off.

    `values` is ``[H, W]`` of any integer or float type; `Refusal` if a pixel is not finite. The range: ``"robust"``
    (also for None) from the 0.5th to the 99.5th percentile, or the full range where these two are equal; ``"full"``
    from the smallest to the largest pixel; two numbers as they are. `valid` ``bool [H, W]`` are the pixels that decide.
    """
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise Refusal("holds pixels that are not finite numbers")
    smallest, largest = values.min().item(), values.max().item()
    # At most 65,536 values occur: they are counted and looked up, which is faster than a sort of 18 million pixels.
    if values.dtype.kind in "iu" and largest - smallest < 65536:
        offsets = np.subtract(values, smallest, dtype=np.int64 if values.dtype.itemsize > 2 else np.int32)
        return _window_by_table(offsets.astype(np.uint16), smallest, largest - smallest, window, valid)
    chosen = values if valid is None or not valid.any() else values[valid]
    if isinstance(window, tuple):
        low, high = window
    else:
        low, high = float(chosen.min()), float(chosen.max())
        if window != "full":
            inner = np.percentile(chosen.astype(np.float64), ROBUST_PERCENTILES)
            low, high = (float(inner[0]), float(inner[1])) if inner[0] < inner[1] else (low, high)
    return _scale(values.astype(np.float64), low, high)


def _window_by_table(
    offsets: NDArray[np.uint16], smallest: int, span: int, window: Window, valid: NDArray[np.bool_] | None
) -> Gray:
    offsets = np.ascontiguousarray(offsets)
    if isinstance(window, tuple):
        low, high = window[0] - smallest, window[1] - smallest
    else:
        mask = None if valid is None or not valid.any() else valid.astype(np.uint8)
        counts = cv2.calcHist([offsets], [0], mask, [span + 1], [0, span + 1]).ravel()
        held = counts.nonzero()[0]
        cumulative = np.cumsum(counts, dtype=np.float64)
        ranks = np.array((0.0, 100.0) if window == "full" else ROBUST_PERCENTILES) / 100 * (cumulative[-1] - 1)
        low, high = (float(level) for level in np.searchsorted(cumulative, ranks, side="right"))
        if not low < high:
            low, high = float(held[0]), float(held[-1])
    return _scale(np.arange(span + 1, dtype=np.float64), low, high)[offsets]


def _scale(values: NDArray[np.float64], low: float, high: float) -> Gray:
    # An image of one value has nothing to show.
    if not low < high:
        return np.zeros(values.shape, np.uint8)
    return np.rint(np.clip((values - low) / (high - low), 0, 1) * 255).astype(np.uint8)
