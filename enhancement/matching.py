"""Histogram matching: give a radiograph the grey-level distribution of another."""

from __future__ import annotations

import os
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from enhancement.checks import Gray, count_levels
from enhancement.errors import InputError
from enhancement.inputs import Images, enhance
from enhancement.radiograph import as_gray, is_picture, read_radiograph


def match_histogram(image: Images, template: Images | ArrayLike) -> Any:
    """Map grey levels so that the image's cumulative histogram follows the template's.

    Each level present in the image goes to the level at which the template reaches the same cumulative share,
    interpolated between the levels that the template holds and rounded.

    Parameters
    ----------
    image : path-like, PIL image, numpy.ndarray, or several
        A radiograph, a glob pattern, a folder, a batch ``[N, H, W]`` or a list, see `enhancement.inputs.radiographs`;
        not changed.
    template : path-like, PIL image, numpy.ndarray or sequence of numbers
        A radiograph of any size, or the 256 counts (or shares) of its grey levels.

    Returns
    -------
    numpy.ndarray or list of them
        ``uint8 [H, W]``; ``[N, H, W]`` for a batch, a list of arrays for a pattern, folder or list.
        The mapping never reverses two grey levels; an image matched to itself is unchanged.

    Raises
    ------
    InputError
        If an image cannot be used, or the template is neither.
    """
    wanted = _template_counts(template)
    held = wanted.nonzero()[0]
    targets = np.cumsum(wanted[held]) / wanted.sum()

    def matched(gray: Gray) -> Gray:
        shares = np.cumsum(count_levels(gray)) / gray.size
        table = np.rint(np.interp(shares, targets, held))
        return np.asarray(cv2.LUT(gray, table.astype(np.uint8)), np.uint8)

    return enhance(image, matched)


def _template_counts(template: Any) -> NDArray[np.float64]:
    radiograph = isinstance(template, str | os.PathLike) or is_picture(template)
    if radiograph or (isinstance(template, np.ndarray) and template.ndim > 1):
        gray = read_radiograph(template) if isinstance(template, str | os.PathLike) else as_gray(template, "template")
        return count_levels(gray).astype(np.float64)
    try:
        counts = np.asarray(template, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"template: {error}; a radiograph uint8 [H, W] or 256 counts expected") from error
    if counts.shape != (256,):
        raise InputError(f"template: shape {counts.shape} given, a radiograph uint8 [H, W] or 256 counts expected")
    if not np.isfinite(counts).all() or (counts < 0).any() or not counts.any():
        raise InputError("template: 256 counts of 0 or more, not all 0, expected")
    return counts
