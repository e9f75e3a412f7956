"""Raw files of the JSRT database: 2048 x 2048 pixels of 12 bits in big-endian words, no header, white where air is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from enhancement.errors import Refusal
from enhancement.raster import check_size

SIDE, DEEPEST = 2048, 4095


def decode_raw(data: bytes, max_pixels: int) -> NDArray[np.uint16]:
    """Pixels as they are meant to be seen, bone bright: ``uint16 [2048, 2048]`` of 12 bits, not yet windowed.

    Raises
    ------
    Refusal
        If a value needs more than 12 bits, which no file of the database has.
    """
    check_size(SIDE, SIDE, max_pixels)
    stored = np.frombuffer(data, ">u2").reshape(SIDE, SIDE)
    if stored.max() > DEEPEST:
        raise Refusal(f"holds values up to {stored.max()}, where a raw JSRT file has 12 bits; not one of them")
    return DEEPEST - stored.astype(np.uint16)
