"""Perceptual hashes of radiographs: 64 bits of an image and of windows of it, that tint and size leave alone.

An image becomes an equalised thumbnail, which undoes gamma and windowing; a bit says whether one low frequency of its
cosine transform lies above what is usual in the collection (after Zauner 2010, pHash). A cropped copy has the hash of a
window of the original, so windows are hashed too: as the transform is linear, one pair of matrix products gives all.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

SIDE = 64
"""Of a thumbnail, in pixels."""

LOW = 8
"""Frequencies along an axis; more would not survive the misfit of a crop to the nearest window."""

INTERVALS = ((0.0, 1.0), (0.0, 0.9), (0.05, 0.95), (0.1, 1.0), (0.0, 0.8), (0.1, 0.9), (0.2, 1.0))
"""Of width and of height; every pair of them is a window."""

WINDOWS = tuple((top, bottom, left, right) for top, bottom in INTERVALS for left, right in INTERVALS)
CODE = 254.0
"""Length of a code."""

_BATCH = 256


def thumbnail(image: np.ndarray) -> np.ndarray | None:
    """Equalised ``uint8 [SIDE, SIDE]`` of an image ``uint8 [H, W]`` without its dark margins; None if it is blank."""
    inside = _without_margins(image)
    if int(inside.max()) - int(inside.min()) < 8:
        return None
    return cv2.equalizeHist(cv2.resize(inside, (SIDE, SIDE), interpolation=cv2.INTER_AREA))


def coefficients(thumbnails: np.ndarray) -> np.ndarray:
    """Cosine coefficients of every window.

    Parameters
    ----------
    thumbnails : uint8 [N, SIDE, SIDE]

    Returns
    -------
    float32 [N, len(WINDOWS), LOW * LOW]
        Scaled to length 1 in each window, the constant one set to 0.
    """
    basis = _basis()
    found = basis @ thumbnails.astype(np.float32) @ basis.T
    count = len(INTERVALS)
    found = found.reshape(-1, count, LOW, count, LOW).transpose(0, 1, 3, 2, 4).reshape(-1, count**2, LOW * LOW)
    found[..., 0] = 0
    length = np.linalg.norm(found, axis=-1, keepdims=True)
    return found / np.maximum(length, 1e-6)


def usual(thumbnails: np.ndarray, sample: int = 4096) -> tuple[np.ndarray, np.ndarray]:
    """Median and spread of each coefficient of whole images, float32 [LOW * LOW] each; 0 and 1 of too few to say."""
    if len(thumbnails) < 32:
        return np.zeros(LOW * LOW, np.float32), np.ones(LOW * LOW, np.float32)
    rows = np.unique(np.linspace(0, len(thumbnails) - 1, sample).astype(int))
    parts = [coefficients(thumbnails[rows[i : i + _BATCH]])[:, 0] for i in range(0, len(rows), _BATCH)]
    every = np.concatenate(parts)
    centre = np.median(every, axis=0)
    return centre, np.percentile(np.abs(every - centre), 68, axis=0) + 1e-4


def encode(thumbnails: np.ndarray, out: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Hash and code of every window.

    Parameters
    ----------
    thumbnails : uint8 [N, SIDE, SIDE]
    out : int8 [N, len(WINDOWS) + 1, LOW * LOW], optional
        Where to write the codes, say a file in memory's stead.

    Returns
    -------
    hashes : uint64 [N, len(WINDOWS) + 1]
        The first column is that of the whole image, the last that of its mirror image.
    codes : int8 [N, len(WINDOWS) + 1, LOW * LOW]
        What the bits are the signs of, `CODE` times unit vectors: their dot product is a correlation.
    """
    centre, spread = usual(thumbnails)
    if out is None:
        out = np.empty((len(thumbnails), len(WINDOWS) + 1, LOW * LOW), np.int8)
    hashed = np.empty((len(thumbnails), len(WINDOWS) + 1), np.uint64)
    # a mirror image has the odd horizontal frequencies with the other sign
    flip = np.tile(np.where(np.arange(LOW) % 2, -1, 1), LOW).astype(np.float32)
    for start in range(0, len(thumbnails), _BATCH):
        part = slice(start, start + _BATCH)
        found = coefficients(thumbnails[part])
        found = (np.concatenate([found, found[:, :1] * flip], axis=1) - centre) / spread
        found[..., 0] = 0
        hashed[part] = np.packbits(found > 0, axis=-1).view(np.uint64)[..., 0]
        length = np.linalg.norm(found, axis=-1, keepdims=True)
        out[part] = np.clip(np.round(found * (CODE / np.maximum(length, 1e-6))), -127, 127)
    return hashed, out


@lru_cache(maxsize=1)
def _basis() -> np.ndarray:
    """Cosines over each interval, float32 [len(INTERVALS) * LOW, SIDE]; pixels count by their share in it."""
    edges = np.arange(SIDE + 1) / SIDE
    rows = []
    for start, stop in INTERVALS:
        share = np.clip(np.minimum(edges[1:], stop) - np.maximum(edges[:-1], start), 0, None) * SIDE
        place = np.clip(((edges[1:] + edges[:-1]) / 2 - start) / (stop - start), 0, 1)
        rows += [share * np.cos(np.pi * k * place) / share.sum() for k in range(LOW)]
    return np.array(rows, np.float32)


def _without_margins(image: np.ndarray) -> np.ndarray:
    bright = image > 12
    rows, columns = (np.flatnonzero(bright.mean(axis=axis) > 0.05) for axis in (1, 0))
    if len(rows) < 8 or len(columns) < 8:
        return image
    return image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
