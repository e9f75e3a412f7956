"""Histogram matching: give a radiograph the grey-level distribution of another."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from enhancement.checks import Gray, as_gray, count_levels
from enhancement.errors import InputError


def match_histogram(image: Gray, template: Gray | ArrayLike) -> Gray:
    """Map grey levels so that the image's cumulative histogram follows the template's.

    Each level present in the image goes to the level at which the template reaches the same cumulative share,
    interpolated between the levels that the template holds and rounded.

    Parameters
    ----------
    image : numpy.ndarray
        ``uint8 [H, W]``; not changed.
    template : numpy.ndarray or sequence of numbers
        A radiograph, ``uint8 [H, W]`` of any size, or the 256 counts (or shares) of its grey levels.

    Returns
    -------
    numpy.ndarray
        ``uint8 [H, W]``. The mapping never reverses two grey levels; an image matched to itself is unchanged.

    Raises
    ------
    InputError
        If the image is not ``uint8 [H, W]`` with at least one pixel, or the template is neither.
    """
    image = as_gray(image)
    wanted = _template_counts(template)
    held = wanted.nonzero()[0]
    targets = np.cumsum(wanted[held]) / wanted.sum()
    shares = np.cumsum(count_levels(image)) / image.size
    table = np.rint(np.interp(shares, targets, held))
    return np.asarray(cv2.LUT(image, table.astype(np.uint8)), np.uint8)


def _template_counts(template: Any) -> NDArray[np.float64]:
    if isinstance(template, np.ndarray) and template.ndim == 2:
        return count_levels(as_gray(template, "template")).astype(np.float64)
    try:
        counts = np.asarray(template, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"template: {error}; a radiograph uint8 [H, W] or 256 counts expected") from error
    if counts.shape != (256,):
        raise InputError(f"template: shape {counts.shape} given, a radiograph uint8 [H, W] or 256 counts expected")
    if not np.isfinite(counts).all() or (counts < 0).any() or not counts.any():
        raise InputError("template: 256 counts of 0 or more, not all 0, expected")
    return counts
