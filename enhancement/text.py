"""Find letters, dates and markers burned into a radiograph, and conceal them by inpainting."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from enhancement.checks import Gray
from enhancement.errors import InputError
from enhancement.inputs import Images, enhance
from enhancement.radiograph import as_gray, read_radiograph

_SIDE = 768  # pixels of the longer side after resizing; every length below is in pixels of the resized image
_LARGEST, _SMALLEST, _THINNEST = 84, 12, 5  # of a glyph's box: longer side at most and at least, shorter side at least
_RING = 4  # width of the ring around a glyph within which its edge must have ended
# Grey levels, chosen on 144 radiographs of six sources: anatomy reached 57, with edges that were not steep all around.
_CONTRAST, _WITHIN_LUNGS, _CLEAR = 55, 75, 140
_MOST = 4000  # candidates; a radiograph has hundreds, an image of noise has more than this, and no text
_MARGIN = 0.12  # of each side; without a lung mask, the lungs are assumed to lie further inside


class _Glyphs(NamedTuple):
    """Candidates for letters; float [n], except for boxes and hulls."""

    boxes: np.ndarray  # int [n, 4]: left, top, right, bottom
    contrast: np.ndarray  # grey levels above the surroundings; negative for dark letters
    steep: np.ndarray  # share of the ring that differs by half of the contrast or more
    even: np.ndarray  # standard deviation within the glyph, divided by the contrast
    solid: np.ndarray  # share of the convex hull that is filled: low for strokes, high for blobs
    inside: np.ndarray  # share of the glyph within the lungs
    hulls: list[np.ndarray]  # convex hulls, as OpenCV draws them


def find_text(image: Any, lungs: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
    """Find letters, dates, arrows and markers: uniform regions with steep edges all around, and their neighbours.

    Candidates are maximally stable extremal regions of the size of letters. A clear letter is accepted by itself.
    Fainter or smaller candidates are accepted next to it, as parts of the same word. Within the lungs a higher contrast
    is required.

    Counted by eye on radiographs that were not used to choose the thresholds: of 90 letters, words and labels in 45
    radiographs of six sources it found 79; most of the others were faint. In 5 of the 45 it also marked the end of a
    bone or the edge of an arm, but never anything in the lungs. In 28 radiographs without text it marked nothing.

    Parameters
    ----------
    image : path-like, PIL image or numpy.ndarray
        One radiograph, as `clahe` takes it; not changed.
    lungs : bool [H, W], optional
        Where the lungs are. By default the middle of the image is used instead.

    Returns
    -------
    numpy.ndarray
        ``bool [H, W]``: True on text and on a small margin around it.

    Raises
    ------
    InputError
        If the image cannot be used, or `lungs` has another shape.

    References
    ----------
    J. Matas, O. Chum, M. Urban, T. Pajdla, "Robust wide baseline stereo from maximally stable extremal regions",
    BMVC 2002.
    """
    return _text(read_radiograph(image) if isinstance(image, str | os.PathLike) else as_gray(image), lungs)


def conceal_text(image: Images, lungs: NDArray[np.bool_] | None = None) -> Any:
    """Replace what `find_text` finds by inpainting from its surroundings (Telea's method; OpenCV's implementation).

    Figure 20 of the COVID-CXNet paper shows in this way how letters change a prediction. A bright or dark plate behind
    the letters often remains.

    Parameters
    ----------
    image : path-like, PIL image, numpy.ndarray, or several
        A radiograph, a glob pattern, a folder, a batch ``[N, H, W]`` or a list, see `enhancement.inputs.radiographs`;
        not changed.
    lungs : bool [H, W], optional
        Where the lungs are; for a single radiograph only.

    Returns
    -------
    numpy.ndarray or list of them
        ``uint8 [H, W]``; ``[N, H, W]`` for a batch, a list of arrays for a pattern, folder or list. A radiograph
        without text is returned unchanged.

    Raises
    ------
    InputError
        If an image cannot be used, or `lungs` has another shape.

    References
    ----------
    A. Telea, "An image inpainting technique based on the fast marching method", Journal of Graphics Tools 9(1), 2004.
    """
    return enhance(image, lambda gray: inpaint(gray, _text(gray, lungs)))


def inpaint(gray: Gray, mask: NDArray[np.bool_]) -> Gray:
    """Fill the pixels of a mask ``bool [H, W]`` in an image ``uint8 [H, W]`` from their surroundings."""
    radius = max(3, round(3 * max(gray.shape) / _SIDE))
    return np.asarray(cv2.inpaint(gray, mask.astype(np.uint8), radius, cv2.INPAINT_TELEA), np.uint8)


def _text(gray: Gray, lungs: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    if lungs is not None and np.shape(lungs) != gray.shape:
        raise InputError(f"lungs: a mask of {np.shape(lungs)} given, {gray.shape} expected, as the radiograph")
    scale = _SIDE / max(gray.shape)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    wide, high = (max(1, round(side * scale)) for side in gray.shape[::-1])
    small = np.asarray(cv2.resize(gray, (wide, high), interpolation=how), np.uint8)
    mask = np.zeros(small.shape, np.uint8)
    if min(small.shape) < _SMALLEST:
        return np.zeros(gray.shape, bool)
    glyphs = _glyphs(small, _zone(small.shape, lungs))
    for k in np.flatnonzero(_chosen(glyphs)):
        cv2.fillConvexPoly(mask, glyphs.hulls[k], 1)
    covered = cv2.dilate(mask, np.ones((2 * _RING + 1,) * 2, np.uint8))
    return cv2.resize(covered, gray.shape[::-1], interpolation=cv2.INTER_NEAREST) > 0


def _zone(shape: tuple[int, ...], lungs: NDArray[np.bool_] | None) -> np.ndarray:
    """The lungs, or the middle of the image, where a higher contrast is required; bool of this shape."""
    if lungs is not None:
        return cv2.resize(np.asarray(lungs, np.uint8), shape[::-1], interpolation=cv2.INTER_NEAREST) > 0
    zone = np.zeros(shape, bool)
    top, left = (round(_MARGIN * side) for side in shape)
    zone[top : shape[0] - top, left : shape[1] - left] = True
    return zone


def _glyphs(small: Gray, zone: np.ndarray) -> _Glyphs:
    """All regions that could be a letter, with what decides it."""
    # A small delta and a large variation, because thin strokes change much in area from level to level. Passed by
    # position (delta, smallest and largest area, variation, diversity), as names differ between versions of OpenCV.
    detector = cv2.MSER.create(6, 20, _LARGEST**2, 1.0, 0.1)
    regions, boxes = detector.detectRegions(small)
    if len(regions) > _MOST:
        regions, boxes = (), ()
    pad = _RING + 2
    padded = cv2.copyMakeBorder(small, pad, pad, pad, pad, cv2.BORDER_REPLICATE)
    kernel, rows, hulls = np.ones((3, 3), np.uint8), [], []
    for points, (x, y, wide, high) in zip(map(np.asarray, regions), np.reshape(boxes, (-1, 4)), strict=True):
        if not 7 <= max(wide, high) <= _LARGEST:
            continue
        within = np.zeros((high + 2 * pad, wide + 2 * pad), np.uint8)
        within[points[:, 1] - y + pad, points[:, 0] - x + pad] = 1
        patch = padded[y : y + high + 2 * pad, x : x + wide + 2 * pad].astype(np.float32)
        # Without the pixels right next to the stroke, which are a mixture of both grey levels.
        ring = (cv2.dilate(within, kernel, iterations=_RING) > 0) & (cv2.dilate(within, kernel) == 0)
        level, around = np.median(patch[within > 0]), patch[ring]
        contrast = float(level - np.median(around))
        if abs(contrast) < _CONTRAST / 2:
            continue
        steep = np.mean(np.sign(contrast) * (level - around) >= 0.5 * abs(contrast))
        hull = cv2.convexHull(points)
        area = cv2.contourArea(hull) + 0.5 * cv2.arcLength(hull, True) + 1  # of whole pixels, not from centre to centre
        even = patch[within > 0].std() / abs(contrast)
        lung = zone[points[:, 1], points[:, 0]].mean()
        rows.append((x, y, x + wide, y + high, contrast, steep, even, len(points) / area, lung))
        hulls.append(hull)
    table = np.array(rows, float).reshape(-1, 9)
    contrasts, steeps, evens, solids, insides = table.T[4:]
    return _Glyphs(table[:, :4], contrasts, steeps, evens, solids, insides, hulls)


def _chosen(glyphs: _Glyphs) -> np.ndarray:
    """Accepted glyphs, bool [n]: clear ones and, from neighbour to neighbour, what could belong to the same word."""
    sides = glyphs.boxes[:, 2:] - glyphs.boxes[:, :2]
    longest, contrast = sides.max(axis=1, initial=0), np.abs(glyphs.contrast)
    needed = np.where(glyphs.inside > 0.5, _WITHIN_LUNGS, _CONTRAST)
    # The ring is unreliable in small holes and at the border, so it counts less where only text has such contrast.
    steep = glyphs.steep >= np.where(contrast >= _CLEAR, 0.85, 0.97)
    chosen = (contrast >= needed) & steep & (glyphs.even <= 0.35) & (glyphs.solid <= 0.8)
    chosen &= (longest >= _SMALLEST) & (sides.min(axis=1, initial=_LARGEST) >= _THINNEST)
    fair = (glyphs.steep >= 0.9) & (glyphs.even <= 0.5)
    waiting = list(np.flatnonzero(chosen))
    while waiting:
        k = waiting.pop()
        box = glyphs.boxes[k]
        gap = np.maximum(np.maximum(box[:2] - glyphs.boxes[:, 2:], glyphs.boxes[:, :2] - box[2:]), 0)
        reach = min(longest[k], 24.0)
        beside = (gap[:, 0] <= 0.9 * reach) & (gap[:, 1] <= 0.6 * reach) & (longest <= 1.4 * longest[k])
        new = np.flatnonzero(beside & fair & (contrast >= max(0.4 * contrast[k], _CONTRAST / 2)) & ~chosen)
        chosen[new] = True
        waiting += list(new)
    return chosen
