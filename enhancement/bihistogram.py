"""BEASF: bi-histogram equalisation with adaptive sigmoid functions (Arriaga-Garcia et al. 2014).

The image is counted once, the whole method happens on a table of 256 grey levels, and the table is looked up once.
"""

from __future__ import annotations

from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from enhancement.checks import Gray, as_positive, count_levels
from enhancement.errors import InputError
from enhancement.inputs import Images, enhance

HISTOGRAMS = ("levels", "range")


def beasf(image: Images, gamma: float = 1.5, histogram: Literal["levels", "range"] = "levels") -> Any:
    """Enhance contrast by two sigmoids that meet at the mean grey level.

    The histogram is split at the mean ``m``, rounded down. In each half the bin where the half's own cumulative
    histogram passes 0.5 centres a sigmoid of slope ``gamma``, whose argument runs over 5 in the half's width. The
    sigmoids are stretched back to ``[0, m]`` and ``[m, 255]``. Contrast rises around both medians and falls at the
    ends, so it can fall within lungs whose grey levels lie far from both; the mean of the image moves.

    Parameters
    ----------
    image : path-like, PIL image, numpy.ndarray, or several
        A radiograph, a glob pattern, a folder, a batch ``[N, H, W]`` or a list, see `enhancement.inputs.radiographs`;
        not changed.
    gamma : float
        Slope of the sigmoids, above 0; the COVID-CXNet paper uses 1.5. Values far below 0.5 leave few grey levels,
        because the sigmoids are rounded before they are stretched.
    histogram : {"levels", "range"}
        What the medians are taken from: ``"levels"`` counts the 256 grey levels, as the paper says; ``"range"``
        lays 256 bins from the image's own minimum to its maximum and reads bin numbers as grey levels, as does the
        implementation published with COVID-CXNet, which this option equals bit for bit wherever that one gives a
        valid result. On images that hold both 0 and 255 the two are the same.

    Returns
    -------
    numpy.ndarray or list of them
        ``uint8 [H, W]``; ``[N, H, W]`` for a batch, a list of arrays for a pattern, folder or list.
        The mapping never reverses two grey levels.

    Raises
    ------
    InputError
        If an image cannot be used, or a setting is out of range.

    Notes
    -----
    Both histograms share the published arithmetic, with its quirks: bin ``m`` counts in both halves, the upper
    sigmoid is centred one bin below its median and starts one level late, and both sigmoids are rounded down
    before they are stretched. Where that arithmetic has no answer, this holds: an image of one grey level comes back
    as it is; a half whose rounded sigmoid is flat is stretched without rounding, and is left as it is when it has one
    level or its sigmoid is flat to machine precision; the mean is exact for any size of image.

    References
    ----------
    E. F. Arriaga-Garcia, R. E. Sanchez-Yanez, M. G. Garcia-Hernandez, "Image enhancement using bi-histogram
    equalization with adaptive sigmoid functions", CONIELECOMP 2014, pp. 28-34.
    A. Haghanifar et al., "COVID-CXNet: Detecting COVID-19 in frontal chest X-ray images using deep learning", 2020,
    section 3.

    Examples
    --------
    >>> import numpy as np
    >>> beasf(np.array([[60, 80, 100, 120, 140, 160]], np.uint8))
    array([[ 24,  62,  98, 124, 166, 208]], dtype=uint8)
    """

    def enhanced(gray: Gray) -> Gray:
        return np.asarray(cv2.LUT(gray, beasf_table(count_levels(gray), gamma, histogram)), np.uint8)

    return enhance(image, enhanced)


def beasf_table(
    counts: NDArray[np.int64], gamma: float = 1.5, histogram: Literal["levels", "range"] = "levels"
) -> NDArray[np.uint8]:
    """Grey-level table of `beasf` for an image with these 256 counts: ``uint8 [256]``, non-decreasing."""
    gamma = as_positive(gamma, "gamma")
    if histogram not in HISTOGRAMS:
        raise InputError(f"histogram: {histogram!r} given, 'levels' or 'range' expected")
    present = counts.nonzero()[0]
    low, high = int(present[0]), int(present[-1])
    if low == high:
        return _LEVELS.astype(np.uint8)
    size = int(counts.sum())
    mean = int(counts @ _LEVELS) // size
    bins = _bins_over_range(counts, low, high) if histogram == "range" else counts
    shares = bins / size
    dark = _median(shares[: mean + 1])
    # The published loop looks one bin ahead: it stops one before the median, except at its first step.
    bright = mean + max(_median(shares[mean:]) - 1, 0)
    curve = _sigmoids(mean, dark, bright, gamma)
    table = np.empty(256)
    table[: mean + 1] = _stretch_dark(curve[: mean + 1], mean)
    table[mean + 1 :] = _stretch_bright(curve[mean + 1 :], mean)
    return table.astype(np.uint8)


_LEVELS = np.arange(256, dtype=np.int64)


def _bins_over_range(counts: NDArray[np.int64], low: int, high: int) -> NDArray[np.float64]:
    # The edges low + k * (high - low) / 256 are exact in binary, so whole-number arithmetic finds the same bins.
    bins = ((_LEVELS[low : high + 1] - low) * 256) // (high - low)
    bins[-1] = 255  # the last bin includes its upper edge
    return np.bincount(bins, weights=counts[low : high + 1], minlength=256).astype(np.float64)


def _median(shares: NDArray[np.float64]) -> int:
    # Shares are summed first and divided before the second sum: the published order, which decides ties at 0.5.
    cumulative = (shares / shares.cumsum()[-1]).cumsum()
    return int(cumulative.searchsorted(0.5, side="right"))


def _sigmoids(mean: int, dark: int, bright: int, gamma: float) -> NDArray[np.float64]:
    """Both sigmoids one after the other, levels 0 to ``mean`` and ``mean + 1`` to 255, each in 0..1.

    In place and in the published order of operations, on which the last bit depends.
    """
    x = _LEVELS.astype(np.float64)
    lower, upper = x[: mean + 1], x[mean + 1 :]
    lower -= dark
    upper -= bright + 1  # level m + 1 takes the sigmoid's value at m, and so on: the published offset by one
    x *= 5.0
    lower /= max(mean, 1)
    upper /= 255 - mean
    with np.errstate(over="ignore"):  # a steep sigmoid runs into exactly 0
        x *= -gamma
        np.exp(x, out=x)
    x += 1
    return np.divide(1, x, out=x)


def _stretch_dark(curve: NDArray[np.float64], mean: int) -> NDArray[np.float64]:
    steps = np.floor(mean * curve)
    first, last = steps[0].item(), steps[-1].item()
    if first == last:
        return _stretch_unrounded(curve, 0, mean, 0)
    return np.floor((mean / (last - first)) * (steps - first))


def _stretch_bright(curve: NDArray[np.float64], mean: int) -> NDArray[np.float64]:
    width = 255 - mean
    steps = np.floor(mean + width * curve)
    first, last = steps[0].item(), steps[-1].item()
    if first == last:
        return _stretch_unrounded(curve, mean, 255, mean + 1)
    return width * (steps - first) / (last - first) + mean


def _stretch_unrounded(curve: NDArray[np.float64], low: int, high: int, start: int) -> NDArray[np.float64]:
    span = curve[-1] - curve[0]
    if span <= 1e-12:
        return np.arange(start, start + curve.size, dtype=np.float64)
    return np.clip(low + (high - low) * ((curve - curve[0]) / span), low, high)
