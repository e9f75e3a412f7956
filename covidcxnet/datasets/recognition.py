"""Is it a frontal chest radiograph, upright and not a negative? Simple rules that can be explained, no network.

The image is compared with an average of normal phantoms by normalised cross-correlation over places and sizes; its
halves are compared with each other; and its middle with its sides. What fails is set aside for a look, not thrown away.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from covidcxnet.datasets.fingerprint import without_margins
from covidcxnet.datasets.phantom import phantom

# Lateral views, slices and other body parts alike: the rules do not tell which of them an image is.
OTHER = "not an upright frontal chest"
SMALLEST = 64  # pixels of an image's shorter side; fewer show no chest
SIDE = 64  # pixels to which an image is brought; coarse shape decides, not texture
_SIZES = (40, 48, 56)  # of the phantom in it
_SHIFTS = 8  # pixels by which the axis of the body may be off the middle

# the negative, or the turned image, is that much like a chest, and more so by `BETTER`
NEGATIVE, TURNED, BETTER = 0.60, 0.60, 0.15
# likeness below which nothing is taken for a chest; 99.8% of real frontal radiographs lie above
CHEST = 0.44
# grey-level entropy in bits (of 64 levels) and likeness below which, both together, it is a slice or a drawing
FLAT, FLAT_CHEST = 4.6, 0.62
# likeness, symmetry and contrast of middle to sides that a lateral view stays below, all three
SIDEWAYS, UNEVEN, OPEN_MIDDLE = 0.56, 0.80, 80.0
# mean spread between colour channels, of 255: a photograph's, and that of a tinted radiograph
PHOTOGRAPH, TINT = 25.0, 1.5


@dataclass(frozen=True)
class Impression:
    """What the rules of `judge` look at."""

    likeness: float  # best correlation with the average phantom, -1..1
    negative: float  # the same for the image's negative
    turned: float  # the best of the image turned by 90, 180 and 270 degrees
    symmetry: float  # correlation with its mirror image, at the best axis near the middle, -1..1
    middle: float  # mean of the middle less that of the sides, in equalised grey levels
    entropy: float  # of the grey levels, in bits, 0..6


def impression(image: np.ndarray, counts: np.ndarray | None = None) -> Impression:
    """Measure an image, ``uint8 [H, W]``; `counts`: the pixels of each grey level, where they are known."""
    small = cv2.equalizeHist(_thumbnail(without_margins(image, 8, 0.02)))
    best, worst = _match(small)
    turned = max(_match(np.ascontiguousarray(np.rot90(small, k)))[0] for k in (1, 2, 3))
    levels = (_counts(image) if counts is None else counts).reshape(64, 4).sum(axis=1) / image.size
    levels = levels[levels > 0]
    middle, sides = small[16:48, 26:38].mean(), (small[16:48, 8:22].mean() + small[16:48, 42:56].mean()) / 2
    entropy = float(-(levels * np.log2(levels)).sum())
    return Impression(best, -worst, turned, _symmetry(small), float(middle - sides), entropy)


def judge(image: np.ndarray, counts: np.ndarray | None = None) -> dict[str, str]:
    """Problems of an image, ``uint8 [H, W]``: key of `check.PROBLEMS` to why; empty where it looks as it should."""
    view = impression(image, counts)
    if view.negative >= NEGATIVE and view.negative > view.likeness + BETTER:
        return {"inverted": f"its negative looks like a chest ({view.negative:.2f}), it does not ({view.likeness:.2f})"}
    if view.turned >= TURNED and view.turned > view.likeness + BETTER:
        return {"turned": f"looks like a chest when turned ({view.turned:.2f}), not as it is ({view.likeness:.2f})"}
    if view.likeness < CHEST:
        return {OTHER: f"likeness to a frontal chest {view.likeness:.2f}, {CHEST} or more expected"}
    if view.likeness < SIDEWAYS and view.symmetry < UNEVEN and view.middle < OPEN_MIDDLE:
        return {"lateral": f"little likeness to a frontal chest ({view.likeness:.2f}), uneven ({view.symmetry:.2f})"}
    if view.entropy < FLAT and view.likeness < FLAT_CHEST:
        return {OTHER: f"likeness {view.likeness:.2f} and few grey levels ({view.entropy:.1f} bits): a slice?"}
    return {}


def recognise(image: np.ndarray, path: str | os.PathLike[str] | None = None) -> dict[str, str]:
    """All problems that an image ``uint8 [H, W]`` shows; `path` is its file, which still has the colours."""
    height, width = image.shape
    counts = _counts(image)
    darkest, brightest = counts.nonzero()[0][[0, -1]]
    # all but the brightest and the darkest hundredth
    low, high = np.searchsorted(counts.cumsum(), np.array([0.01, 0.99]) * (image.size - 1), side="right")
    if brightest - darkest < 8 or high - low < 4:
        return {"blank": f"grey levels {darkest} to {brightest} only"}
    if min(height, width) < SMALLEST:
        return {"small": f"{width} x {height} pixels, {SMALLEST} or more expected"}
    problems = judge(image, counts)
    colour = None if path is None else tint(path)
    return problems if colour is None else {**problems, colour[0]: colour[1]}


def tint(path: str | os.PathLike[str]) -> tuple[str, str] | None:
    """Whether a picture file has colour: ("photograph" or "colour", why), or None for gray and for DICOM."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            if picture.mode in ("1", "L", "LA", "I", "F") or picture.mode.startswith("I;"):
                return None
            picture.draft("RGB", (256, 256))
            small = picture.convert("RGBA")
            small.thumbnail((256, 256))
            pixels = np.asarray(small, np.int16)
    except Exception:  # another decoder read it, and whether it has colour is then not known
        return None
    colours = pixels[pixels[..., 3] > 0][:, :3]
    if not colours.size:
        return None
    spread = float((colours.max(axis=1) - colours.min(axis=1)).mean())
    reason = f"colour channels differ by {spread:.1f} of 255 on average"
    return ("photograph", reason) if spread >= PHOTOGRAPH else ("colour", reason) if spread >= TINT else None


@cache
def _templates() -> tuple[np.ndarray, ...]:
    """The average of 24 normal phantoms, its margin cut off, at each size; float32."""
    mean = np.mean([cv2.equalizeHist(phantom("normal", seed, SIDE).image) for seed in range(24)], axis=0)
    chest = mean[4:60, 4:60].astype(np.float32)
    return tuple(cv2.resize(chest, (size, size), interpolation=cv2.INTER_AREA) for size in _SIZES)


def _match(small: np.ndarray) -> tuple[float, float]:
    """Highest and lowest correlation with the average phantom over places and sizes."""
    scores = [cv2.matchTemplate(small.astype(np.float32), t, cv2.TM_CCOEFF_NORMED) for t in _templates()]
    return float(max(s.max() for s in scores)), float(min(s.min() for s in scores))


def _symmetry(small: np.ndarray) -> float:
    # shifted by an axis off the middle, an image and its mirror image overlap in a strip and the strip's own mirror
    # image: the products of columns tell its correlation for every axis
    image = small.astype(np.float64)
    products, sums = image.T @ image, image.sum(axis=0)
    best = -1.0
    for shift in range(-_SHIFTS, _SHIFTS + 1):
        strip = slice(max(0, shift), SIDE + min(0, shift))
        inner, count = products[strip, strip], SIDE * (SIDE - abs(shift))
        mean = sums[strip].sum() / count
        spread = inner.trace() / count - mean**2
        if spread > 1e-6:
            best = max(best, (inner[:, ::-1].trace() / count - mean**2) / spread)
    return float(best)


def _thumbnail(image: np.ndarray) -> np.ndarray:
    # Of a large image by way of four times the size, in whole pixels: a quarter of the time.
    step = min(image.shape) // (4 * SIDE)
    if step > 1:
        height, width = (n // step for n in image.shape)
        image = cv2.resize(image[: height * step, : width * step], (width, height), interpolation=cv2.INTER_AREA)
    return cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def _counts(image: np.ndarray) -> np.ndarray:
    """Pixels of each grey level, float64 [256]: a full-size radiograph in a millisecond or two."""
    return cv2.calcHist([np.ascontiguousarray(image)], [0], None, [256], [0, 256]).ravel().astype(np.float64)
