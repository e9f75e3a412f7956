"""The second look at a suspected pair: one thumbnail laid over the other, then their details correlated.

Chests are alike, so whole images of two people correlate well. What differs are edges: after registration (Evangelidis
and Psarakis 2008, ECC) each place is brought to mean 0 and spread 1 of its neighbourhood, which takes out what is left
of tint and keeps burnt-in letters local, and only then is the correlation taken.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from covidcxnet.datasets.fingerprint import SIDE, WINDOWS

_STEPS = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 40, 1e-4)
_EVERYWHERE = np.full((SIDE, SIDE), 255, np.uint8)
_COARSE, _FINE = 4.0, 1.2  # pixels; ribs and heart are coarse and alike in all of us, fine edges are a picture's own
_HOPELESS = 0.2
"""Correlation of coarse details before registration below which it is not tried."""


@dataclass(frozen=True)
class Fit:
    """How two thumbnails lie over each other."""

    correlation: float  # of their details where they overlap, -1..1
    overlap: float  # share of the first that the second covers, 0..1
    shown: float  # share of the second that the first shows, 0..1


def second_look(first: np.ndarray, second: np.ndarray, window: int = 0, mirrored: bool = False) -> Fit:
    """Lay thumbnail `second` over `first`, both uint8 [SIDE, SIDE], and compare.

    `window` of `fingerprint.WINDOWS` is the part of `second` that `first` seems to show: there registration starts.
    """
    if mirrored:
        first = np.ascontiguousarray(first[:, ::-1])
    top, bottom, left, right = WINDOWS[window]
    warp = np.array([[right - left, 0, left * SIDE], [0, bottom - top, top * SIDE]], np.float32)
    before = _fit(first, second, warp, _FINE)
    if _fit(first, second, warp, _COARSE).correlation < _HOPELESS:
        return before
    try:
        _, moved = cv2.findTransformECC(first, second, warp.copy(), cv2.MOTION_AFFINE, _STEPS, _EVERYWHERE, 5)
    except cv2.error:  # it did not converge
        return before
    scales = np.linalg.svd(moved[:, :2], compute_uv=False)
    if scales.min() < 0.5 or scales.max() > 2.0:
        return before
    after = _fit(first, second, moved, _FINE)
    return after if after.correlation > before.correlation else before


def _fit(first: np.ndarray, second: np.ndarray, warp: np.ndarray, scale: float) -> Fit:
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    laid = cv2.warpAffine(second, warp, (SIDE, SIDE), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    inside = cv2.warpAffine(np.ones_like(second), warp, (SIDE, SIDE), flags=flags | cv2.INTER_NEAREST) > 0
    overlap = float(inside.mean())
    shown = min(1.0, overlap * abs(float(np.linalg.det(warp[:, :2]))))
    if overlap < 0.4:
        return Fit(-1.0, overlap, shown)
    a, b = _details(first, scale)[inside], _details(laid, scale)[inside]
    a, b = a - a.mean(), b - b.mean()
    return Fit(float((a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum() + 1e-9)), overlap, shown)


def _details(image: np.ndarray, scale: float) -> np.ndarray:
    image = image.astype(np.float32)
    high = image - cv2.GaussianBlur(image, (0, 0), scale)
    return high / (np.sqrt(cv2.GaussianBlur(high**2, (0, 0), 1.5 * scale)) + 4)
