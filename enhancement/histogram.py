"""Grey-level counts of a radiograph."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from enhancement.checks import Gray

# OpenCV counts in float32, which holds whole numbers up to 2 ** 24 only.
_EXACT = 1 << 24


def count_levels(image: Gray) -> NDArray[np.int64]:
    """Count the 256 grey levels of a contiguous ``uint8 [H, W]`` image; exact for any size.

    Returns
    -------
    numpy.ndarray
        ``int64 [256]``.
    """
    if image.size <= _EXACT:
        return cv2.calcHist([image], [0], None, [256], [0, 256]).ravel().astype(np.int64)
    flat = image.reshape(-1)
    parts = (flat[start : start + _EXACT, None] for start in range(0, flat.size, _EXACT))
    return sum((count_levels(part) for part in parts), np.zeros(256, np.int64))
