"""What every enhancement asks of its input."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from enhancement.errors import InputError

Gray = NDArray[np.uint8]
"""A radiograph: ``uint8 [H, W]``, black 0 to white 255."""


def as_gray(image: Any, name: str = "image") -> Gray:
    """Return ``image`` as a contiguous ``uint8 [H, W]`` array, or say why it is none; nothing is converted."""
    if not isinstance(image, np.ndarray):
        raise InputError(f"{name}: {type(image).__name__} given, a NumPy array uint8 [H, W] expected")
    if image.dtype != np.uint8:
        raise InputError(
            f"{name}: dtype {image.dtype} given, uint8 expected; read_radiograph windows deeper pixels to 8 bits"
        )
    if image.ndim != 2:
        raise InputError(f"{name}: shape {image.shape} given, [H, W] expected: one gray plane")
    if image.size == 0:
        raise InputError(f"{name}: shape {image.shape} given, at least one pixel expected")
    return np.ascontiguousarray(image)


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
