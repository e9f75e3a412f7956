"""The one reader of what users give as radiographs: paths, patterns, PIL images and arrays, one or many."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from enhancement.checks import Gray
from enhancement.errors import InputError, Refusal
from enhancement.files import find_images
from enhancement.radiograph import MAX_PIXELS, as_batch, as_gray, is_picture, read_radiograph
from enhancement.streams import check_size

Images = Any
"""A path, a glob pattern, a folder, a PIL image, an array ``[H, W]`` or ``[N, H, W]``, or any number of them."""


def radiographs(images: Images) -> Iterator[Path | Gray]:
    """Files and ``uint8 [H, W]`` arrays one by one, in the order given; no file is opened.

    Parameters
    ----------
    images : path-like, PIL image, numpy.ndarray, or iterable of these
        A string with ``*``, ``?`` or ``[`` that is no file is a glob pattern; it stands for its radiographs, as does a
        folder. An array ``[H, W]``, ``[H, W, 1]``, ``[H, W, 3]`` or ``[H, W, 4]`` is one radiograph, see
        `enhancement.radiograph.as_gray` for types and ranges. Any other array of three axes is a batch ``[N, H, W]``,
        also ``[1, H, W]`` and ``[3, H, W]``; so is ``[N, H, W, 1]``. Elements of a list are one radiograph each, a
        pattern or a folder.

    Yields
    ------
    pathlib.Path or numpy.ndarray
        A path in a list is given on even where there is no such file, or it is a folder that cannot be read: whoever
        reads it records that.

    Raises
    ------
    InputError
        In one line: an array or PIL image that is no radiograph or smaller than 16 x 16 pixels, another type, a
        pattern or folder without radiographs, and a path that does not exist where it is all that is given.
    """
    if isinstance(images, np.ndarray) and images.dtype.kind in "OU":
        images = images.tolist()  # a column of paths
    if isinstance(images, np.ndarray) and is_batch(images):
        yield from (_large_enough(image, "images") for image in as_batch(images))
    elif isinstance(images, np.ndarray) or is_picture(images):
        yield _large_enough(as_gray(images), "image")
    elif isinstance(images, str | os.PathLike):
        yield from find_images(_named(images))
    elif isinstance(images, Iterable) and not isinstance(images, bytes | Mapping):
        for number, item in enumerate(images, 1):
            if not isinstance(item, str | os.PathLike):
                yield _large_enough(as_gray(item, f"image {number}"), f"image {number}")
            elif is_group(item):
                yield from find_images(item)
            else:
                yield Path(_named(item))
    else:
        as_gray(images, "images")  # raises: it is of another type


def is_batch(images: Images) -> bool:
    """Whether it is an array ``[N, H, W]``, whose last axis is too long for colours, or ``[N, H, W, 1]``."""
    if not isinstance(images, np.ndarray):
        return False
    return (images.ndim == 3 and images.shape[2] > 4) or (images.ndim == 4 and images.shape[3] == 1)


def is_group(path: str | os.PathLike[str]) -> bool:
    """Whether a path stands for the radiographs in it: a folder, or a string that is a glob pattern and no file."""
    if os.path.isdir(path):
        try:
            os.scandir(path).close()
        except OSError:  # reading it tells why, as of a file
            return False
        return True
    return isinstance(path, str) and glob.has_magic(path) and not os.path.lexists(path)


def enhance(images: Images, function: Callable[[Gray], NDArray[np.uint8]]) -> Any:
    """What a function of ``uint8 [H, W]`` makes of `images`, as `radiographs` takes them.

    One array for a single radiograph, one array for a batch ``[N, H, W]``, a list of arrays for a pattern, folder or
    list. A file that cannot be read is a `RadiographError`, a list without radiographs an `InputError`.
    """
    if isinstance(images, str | os.PathLike) and not is_group(images):
        return function(read_radiograph(_named(images)))
    if is_picture(images) or (isinstance(images, np.ndarray) and images.dtype.kind not in "OU"):
        return np.stack([*map(function, as_batch(images))]) if is_batch(images) else function(as_gray(images))
    results = (item if isinstance(item, np.ndarray) else read_radiograph(item) for item in radiographs(images))
    enhanced = [function(image) for image in results]
    if not enhanced:
        raise InputError("no radiographs given; a path, an image or a list of them expected")
    return enhanced


def _large_enough(image: Gray, name: str) -> Gray:
    try:  # the limit of files, which holds for arrays too
        check_size(image.shape[1], image.shape[0], MAX_PIXELS)
    except Refusal as refusal:
        raise InputError(f"{name}: {refusal}") from None
    return image


def _named(path: str | os.PathLike[str]) -> str | os.PathLike[str]:
    # Path("") is the working directory.
    if not os.fspath(path):
        raise InputError("an empty path given, a file, folder or glob pattern expected")
    return path
