"""The classical enhancements: histogram equalization, plain, local and contrast-limited, and blurring."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from enhancement.checks import Gray, as_count, as_gray, as_positive
from enhancement.errors import InputError


def clahe(image: Gray, clip_limit: float = 2.0, tile_grid: Sequence[int] = (8, 8)) -> Gray:
    """Equalize each tile with limited contrast and blend between tiles (CLAHE; OpenCV's implementation).

    Parameters
    ----------
    image : numpy.ndarray
        ``uint8 [H, W]``; not changed.
    clip_limit : float
        Above 0: how many times the mean count a grey level may have within a tile before the rest is
        spread over all levels. 2.0 in COVID-CXNet.
    tile_grid : sequence of int
        Number of tiles as (columns, rows).

    Returns
    -------
    numpy.ndarray
        ``uint8 [H, W]``.

    Raises
    ------
    InputError
        If the image is not ``uint8 [H, W]`` with at least one pixel, or a setting is out of range.

    References
    ----------
    K. Zuiderveld, "Contrast limited adaptive histogram equalization", Graphics Gems IV, 1994, pp. 474-485.
    """
    image = as_gray(image)
    clip_limit = as_positive(clip_limit, "clip_limit")
    if not isinstance(tile_grid, Sequence) or len(tile_grid) != 2:
        raise InputError(f"tile_grid: {tile_grid!r} given, (columns, rows) expected")
    columns, rows = (as_count(number, "tile_grid") for number in tile_grid)
    enhanced = cv2.createCLAHE(clipLimit=clip_limit, tileGridSize=(columns, rows)).apply(image)
    return np.asarray(enhanced, np.uint8)


def equalize(image: Gray) -> Gray:
    """Spread the grey levels of the whole image evenly (histogram equalization; OpenCV's implementation).

    Parameters
    ----------
    image : numpy.ndarray
        ``uint8 [H, W]``; not changed.

    Returns
    -------
    numpy.ndarray
        ``uint8 [H, W]``; an image of one grey level comes back as it is.

    Raises
    ------
    InputError
        If the image is not ``uint8 [H, W]`` with at least one pixel.
    """
    return np.asarray(cv2.equalizeHist(as_gray(image)), np.uint8)


def adaptive_equalize(image: Gray, radius: int = 40) -> Gray:
    """Give each pixel its rank among the pixels of the disk around it (local equalization by a rank filter).

    COVID-CXNet feeds its lung U-Net with this, at 320 x 320 and radius 40.

    Parameters
    ----------
    image : numpy.ndarray
        ``uint8 [H, W]``; not changed.
    radius : int
        Radius of the disk in pixels, 1 or more. The time needed grows with it.

    Returns
    -------
    numpy.ndarray
        ``uint8 [H, W]``.

    Raises
    ------
    InputError
        If the image is not ``uint8 [H, W]`` with at least one pixel, or the radius is out of range.
    """
    image = as_gray(image)
    radius = as_count(radius, "radius")
    # Half a second of imports that nothing else needs.
    from skimage.filters.rank import equalize as rank_equalize
    from skimage.morphology import disk

    return rank_equalize(image if image.flags.writeable else image.copy(), disk(radius))


def gaussian_blur(image: Gray, kernel: int = 5) -> Gray:
    """Blur with a Gaussian kernel whose width follows from its size, as OpenCV derives it.

    Parameters
    ----------
    image : numpy.ndarray
        ``uint8 [H, W]``; not changed.
    kernel : int
        Side of the kernel in pixels: an odd number; 1 changes nothing.

    Returns
    -------
    numpy.ndarray
        ``uint8 [H, W]``.

    Raises
    ------
    InputError
        If the image is not ``uint8 [H, W]`` with at least one pixel, or the kernel is not an odd number.
    """
    image = as_gray(image)
    if as_count(kernel, "kernel") % 2 == 0:
        raise InputError(f"kernel: {kernel} given, an odd number expected")
    return np.asarray(cv2.GaussianBlur(image, (int(kernel), int(kernel)), 0), np.uint8)
