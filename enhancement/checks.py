"""What every enhancement needs: checked numbers, and the counts of an image's grey levels."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from enhancement.errors import InputError

Gray = NDArray[np.uint8]
"""A radiograph: ``uint8 [H, W]``, black 0 to white 255."""


def as_positive(value: Any, name: str) -> float:
    """Return a finite number above 0, or raise."""
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value) or value <= 0:
        raise InputError(f"{name}: {value!r} given, a finite number above 0 expected")
    return float(value)


def as_count(value: Any, name: str, minimum: int = 1) -> int:
    """Return a whole number from ``minimum`` up, or raise."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < minimum:
        raise InputError(f"{name}: {value!r} given, a whole number of {minimum} or more expected")
    return int(value)


# OpenCV counts in float32, which holds whole numbers up to 2 ** 24 only.
_EXACT = 1 << 24


def count_levels(image: Gray) -> NDArray[np.int64]:
    """Counts of the 256 grey levels of a contiguous ``uint8 [H, W]`` image, ``int64 [256]``; exact for any size."""
    if image.size <= _EXACT:
        return cv2.calcHist([image], [0], None, [256], [0, 256]).ravel().astype(np.int64)
    flat = image.reshape(-1)
    parts = (flat[start : start + _EXACT, None] for start in range(0, flat.size, _EXACT))
    return sum((count_levels(part) for part in parts), np.zeros(256, np.int64))
