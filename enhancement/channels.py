"""The stack: several enhancements of one radiograph as the planes of one array."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from enhancement.bihistogram import beasf
from enhancement.checks import Gray
from enhancement.errors import InputError
from enhancement.filters import adaptive_equalize, clahe, equalize, gaussian_blur
from enhancement.inputs import Images, enhance

CHANNELS = ("clahe", "beasf", "raw", "equalize", "adaptive_equalize", "blur", "equalize_blur")
"""Names that a stack may be made of; "equalize_blur" is histogram equalisation, then a 5 x 5 Gaussian blur."""


def stack(
    image: Images,
    channels: Sequence[str] = ("clahe", "beasf", "raw"),
    *,
    clahe_clip_limit: float = 2.0,
    clahe_tile_grid: Sequence[int] = (8, 8),
    beasf_gamma: float = 1.5,
    beasf_histogram: Literal["levels", "range"] = "levels",
) -> Any:
    """Stack enhancements of one radiograph, in the order named.

    Parameters
    ----------
    image : path-like, PIL image, numpy.ndarray, or several
        A radiograph, a glob pattern, a folder, a batch ``[N, H, W]`` or a list, see `enhancement.inputs.radiographs`;
        not changed.
    channels : sequence of str
        Names from `CHANNELS`, one or more; a name may come twice. The published notebooks of COVID-CXNet stacked
        (beasf, clahe, raw), its scripts (raw, beasf, clahe).
    clahe_clip_limit, clahe_tile_grid
        Settings of `clahe`.
    beasf_gamma, beasf_histogram
        Settings of `beasf`.

    Returns
    -------
    numpy.ndarray or list of them
        ``uint8 [H, W, C]``, C the number of channels; ``[N, H, W, C]`` for a batch, a list for a pattern, folder or
        list.

    Raises
    ------
    InputError
        If an image cannot be used, or a setting is out of range.
    """
    if isinstance(channels, str) or not channels:
        raise InputError(f"channels: {channels!r} given, a sequence of names out of {', '.join(CHANNELS)} expected")
    for name in channels:
        if name not in CHANNELS:
            raise InputError(f"channels: {name!r} given, names out of {', '.join(CHANNELS)} expected")

    def stacked(gray: Gray) -> NDArray[np.uint8]:
        planes = {
            "clahe": lambda: clahe(gray, clahe_clip_limit, clahe_tile_grid),
            "beasf": lambda: beasf(gray, beasf_gamma, beasf_histogram),
            "raw": lambda: gray,
            "equalize": lambda: equalize(gray),
            "adaptive_equalize": lambda: adaptive_equalize(gray),
            "blur": lambda: gaussian_blur(gray),
            "equalize_blur": lambda: gaussian_blur(equalize(gray)),
        }
        results = {name: planes[name]() for name in dict.fromkeys(channels)}
        return np.stack([results[name] for name in channels], axis=-1)

    return enhance(image, stacked)
