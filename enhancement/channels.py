"""The stack: several enhancements of one radiograph as the planes of one array."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from enhancement.bihistogram import beasf
from enhancement.checks import Gray, as_gray
from enhancement.errors import InputError
from enhancement.filters import adaptive_equalize, clahe, equalize, gaussian_blur

CHANNELS = ("clahe", "beasf", "raw", "equalize", "adaptive_equalize", "blur", "equalize_blur")
"""Names that a stack may be made of; "equalize_blur" is histogram equalisation, then a 5 x 5 Gaussian blur."""


def stack(
    image: Gray,
    channels: Sequence[str] = ("clahe", "beasf", "raw"),
    *,
    clahe_clip_limit: float = 2.0,
    clahe_tile_grid: Sequence[int] = (8, 8),
    beasf_gamma: float = 1.5,
    beasf_histogram: Literal["levels", "range"] = "levels",
) -> NDArray[np.uint8]:
    """Stack enhancements of one radiograph, in the order named.

    Parameters
    ----------
    image : numpy.ndarray
        ``uint8 [H, W]``; not changed.
    channels : sequence of str
        Names from `CHANNELS`, one or more; a name may come twice. The published notebooks of COVID-CXNet stacked
        (beasf, clahe, raw), its scripts (raw, beasf, clahe).
    clahe_clip_limit, clahe_tile_grid
        Settings of `clahe`.
    beasf_gamma, beasf_histogram
        Settings of `beasf`.

    Returns
    -------
    numpy.ndarray
        ``uint8 [H, W, C]``, C the number of channels.

    Raises
    ------
    InputError
        If the image is not ``uint8 [H, W]`` with at least one pixel, or a setting is out of range.
    """
    image = as_gray(image)
    planes = {
        "clahe": lambda: clahe(image, clahe_clip_limit, clahe_tile_grid),
        "beasf": lambda: beasf(image, beasf_gamma, beasf_histogram),
        "raw": lambda: image,
        "equalize": lambda: equalize(image),
        "adaptive_equalize": lambda: adaptive_equalize(image),
        "blur": lambda: gaussian_blur(image),
        "equalize_blur": lambda: gaussian_blur(equalize(image)),
    }
    if isinstance(channels, str) or not channels:
        raise InputError(f"channels: {channels!r} given, a sequence of names out of {', '.join(CHANNELS)} expected")
    for name in channels:
        if name not in planes:
            raise InputError(f"channels: {name!r} given, names out of {', '.join(CHANNELS)} expected")
    results = {name: planes[name]() for name in dict.fromkeys(channels)}
    return np.stack([results[name] for name in channels], axis=-1)
