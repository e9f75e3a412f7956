"""The classical enhancements: histogram equalisation, plain, local and contrast-limited, and blurring."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from enhancement.checks import as_count, as_positive
from enhancement.errors import InputError
from enhancement.inputs import Images, enhance


def clahe(image: Images, clip_limit: float = 2.0, tile_grid: Sequence[int] = (8, 8)) -> Any:
    """Equalize each tile with limited contrast and blend between tiles (CLAHE; OpenCV's implementation).

    Parameters
    ----------
    image : path-like, PIL image, numpy.ndarray, or several
        A radiograph, a glob pattern, a folder, a batch ``[N, H, W]`` or a list, see `enhancement.inputs.radiographs`;
        not changed.
    clip_limit : float
        Above 0: how many times the mean count a grey level may have within a tile before the rest is
        spread over all levels. 2.0 in COVID-CXNet.
    tile_grid : sequence of int
        Number of tiles as (columns, rows).

    Returns
    -------
    numpy.ndarray or list of them
        ``uint8 [H, W]``; ``[N, H, W]`` for a batch, a list of arrays for a pattern, folder or list.

    Raises
    ------
    InputError
        If an image cannot be used, or a setting is out of range.

    References
    ----------
    K. Zuiderveld, "Contrast limited adaptive histogram equalization", Graphics Gems IV, 1994, pp. 474-485.
    """
    clip_limit = as_positive(clip_limit, "clip_limit")
    if not isinstance(tile_grid, Sequence) or len(tile_grid) != 2:
        raise InputError(f"tile_grid: {tile_grid!r} given, (columns, rows) expected")
    columns, rows = (as_count(number, "tile_grid") for number in tile_grid)
    equalizer = cv2.createCLAHE(clipLimit=clip_limit, tileGridSize=(columns, rows))
    return enhance(image, lambda gray: np.asarray(equalizer.apply(gray), np.uint8))


def equalize(image: Images) -> Any:
    """Spread the grey levels of the whole image evenly (histogram equalisation; OpenCV's implementation).

    Parameters
    ----------
    image : path-like, PIL image, numpy.ndarray, or several
        A radiograph, a glob pattern, a folder, a batch ``[N, H, W]`` or a list, see `enhancement.inputs.radiographs`;
        not changed.

    Returns
    -------
    numpy.ndarray
        ``uint8 [H, W]`` or as `clahe`; an image of one grey level comes back as it is.

    Raises
    ------
    InputError
        If an image cannot be used.
    """
    return enhance(image, lambda gray: np.asarray(cv2.equalizeHist(gray), np.uint8))


def adaptive_equalize(image: Images, radius: int = 40) -> Any:
    """Give each pixel its rank among the pixels of the disk around it (local equalisation by a rank filter).

    COVID-CXNet feeds its lung U-Net with this, at 320 x 320 and radius 40.

    Parameters
    ----------
    image : path-like, PIL image, numpy.ndarray, or several
        A radiograph, a glob pattern, a folder, a batch ``[N, H, W]`` or a list, see `enhancement.inputs.radiographs`;
        not changed.
    radius : int
        Radius of the disk in pixels, 1 or more. The time needed grows with it.

    Returns
    -------
    numpy.ndarray or list of them
        ``uint8 [H, W]``; ``[N, H, W]`` for a batch, a list of arrays for a pattern, folder or list.

    Raises
    ------
    InputError
        If an image cannot be used, or the radius is out of range.
    """
    radius = as_count(radius, "radius")
    # Half a second of imports that nothing else needs.
    from skimage.filters.rank import equalize as rank_equalize
    from skimage.morphology import disk

    return enhance(image, lambda gray: rank_equalize(gray if gray.flags.writeable else gray.copy(), disk(radius)))


def gaussian_blur(image: Images, kernel: int = 5) -> Any:
    """Blur with a Gaussian kernel whose width follows from its size, as OpenCV derives it.

    Parameters
    ----------
    image : path-like, PIL image, numpy.ndarray, or several
        A radiograph, a glob pattern, a folder, a batch ``[N, H, W]`` or a list, see `enhancement.inputs.radiographs`;
        not changed.
    kernel : int
        Side of the kernel in pixels: an odd number; 1 changes nothing.

    Returns
    -------
    numpy.ndarray or list of them
        ``uint8 [H, W]``; ``[N, H, W]`` for a batch, a list of arrays for a pattern, folder or list.

    Raises
    ------
    InputError
        If an image cannot be used, or the kernel is not an odd number.
    """
    if as_count(kernel, "kernel") % 2 == 0:
        raise InputError(f"kernel: {kernel} given, an odd number expected")
    return enhance(image, lambda gray: np.asarray(cv2.GaussianBlur(gray, (int(kernel), int(kernel)), 0), np.uint8))
