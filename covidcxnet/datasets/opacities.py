"""Opacities drawn into a radiograph: the same chest, place and machine once without and once with a filled lung.

Public sets take their patients from one place and their normals from another, so that a network can learn the place.
Between a radiograph and its copy with a drawn opacity nothing differs but the opacity. The idea, anomalies made in
normal radiographs, is that of Foreign Patch Interpolation (Tan et al. 2020) and of Natural Synthetic Anomalies
(Schlueter et al. 2022); these opacities are drawn, not cut out of other radiographs.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from enhancement.errors import InputError

KINDS = ("patches", "diffuse", "basal", "lobar", "reticular")
_LEAST_CHANGE, _LEAST_AREA, _TRIES = 6, 0.02, 20  # gray levels, share of the lungs, drawings


@dataclass(frozen=True)
class Drawn:
    """A radiograph with opacities.

    Attributes
    ----------
    image : uint8 [H, W]
    where : bool [H, W]
        Pixels that are brighter by 6 gray levels or more: what a heatmap should point at.
    kinds : tuple of str
        From `KINDS`, what was drawn.
    """

    image: np.ndarray
    where: np.ndarray
    kinds: tuple[str, ...]


def draw_opacities(image: np.ndarray, lungs: np.ndarray, generator: np.random.Generator) -> Drawn:
    """Fill parts of the lungs, as ground-glass, consolidation, effusion or a coarse pattern would.

    Where lung is filled, gray levels go towards those of the soft tissue around the lungs and vessels lose contrast;
    edges fade at the outline of the lungs. One to three kinds on one or both sides, faint to dense, at least 2% of the
    lungs visibly brighter.

    Parameters
    ----------
    image : uint8 [H, W]
    lungs : bool [H, W]
    generator : numpy Generator

    Returns
    -------
    Drawn

    Raises
    ------
    InputError
        If the lungs are empty, of another shape, or as bright as their surroundings already, so that nothing shows.
    """
    if image.shape != lungs.shape or image.dtype != np.uint8 or not lungs.any():
        raise InputError(
            f"opacities: image {image.dtype} {image.shape}, lungs {lungs.shape} of {np.count_nonzero(lungs)} pixels; "
            "a uint8 radiograph and lungs of its size expected"
        )
    places = _Places(lungs)
    for _ in range(_TRIES):
        filled, kinds = _draw(image.astype(np.float32), places, generator)
        where = filled.astype(np.int16) - image >= _LEAST_CHANGE
        if np.count_nonzero(where & lungs) >= _LEAST_AREA * np.count_nonzero(lungs):
            return Drawn(filled, where, kinds)
    raise InputError("opacities: the lungs are about as bright as what surrounds them; nothing drawn there would show")


class _Places:
    """Where a pixel lies in its lung: side, `lateral` 0 (mediastinum) to 1 (chest wall), `vertical` 0 (apex) to 1."""

    def __init__(self, lungs: np.ndarray):
        self.lungs, self.shape, self.scale = lungs, lungs.shape, float(np.sqrt(np.count_nonzero(lungs)))
        rows, columns = np.nonzero(lungs)
        middle = (columns.min() + columns.max()) / 2
        half = max(1.0, (columns.max() - columns.min()) / 2)
        y, x = np.mgrid[: lungs.shape[0], : lungs.shape[1]].astype(np.float32)
        self.y, self.x = y, x
        self.right = x > middle
        self.lateral = (np.abs(x - middle) / half).clip(0, 1)
        self.vertical = ((y - rows.min()) / max(1, rows.max() - rows.min())).clip(0, 1)
        self.soft = cv2.GaussianBlur(lungs.astype(np.float32), (0, 0), max(0.5, self.scale / 60))

    def sides(self, generator: np.random.Generator) -> np.ndarray:
        """One lung or both, bool [H, W]."""
        drawn = generator.random()
        return np.ones(self.shape, bool) if drawn < 0.5 else self.right if drawn < 0.75 else ~self.right

    def centre(self, sides: np.ndarray, generator: np.random.Generator) -> tuple[float, float]:
        """A pixel of the lungs, lower and outer ones oftener, (y, x)."""
        ys, xs = np.nonzero(self.lungs & sides)
        if not len(ys):
            ys, xs = np.nonzero(self.lungs)
        chance = 0.15 + self.vertical[ys, xs] + 0.7 * self.lateral[ys, xs]
        i = generator.choice(len(ys), p=chance / chance.sum())
        return float(ys[i]), float(xs[i])


def _draw(values: np.ndarray, places: _Places, generator: np.random.Generator) -> tuple[np.ndarray, tuple[str, ...]]:
    kinds = tuple(
        generator.choice(KINDS, int(generator.choice([1, 2, 3], p=[0.55, 0.3, 0.15])), replace=False).tolist()
    )
    empty, coarse = np.ones_like(values), np.zeros_like(values)
    for kind in kinds:
        fill = _FILLS[kind](places, generator) * float(generator.uniform(0.2, 0.9))
        if kind == "reticular":
            coarse += fill * _lines(places, generator)
            fill = fill * 0.35
        empty *= 1 - fill.clip(0, 0.97)
    alpha = (1 - empty) * places.soft
    smooth = cv2.GaussianBlur(values, (0, 0), max(0.6, places.scale / 80))
    detail = values - smooth
    tissue = _tissue(values, places.lungs, generator) * (1 + 0.06 * _clouds(values.shape, (9, 20, 45), generator))
    filled = smooth + alpha * np.maximum(tissue - smooth, 0) + detail * (1 - 0.7 * alpha) + coarse * places.soft
    return np.rint(filled).clip(0, 255).astype(np.uint8), kinds


def _tissue(values: np.ndarray, lungs: np.ndarray, generator: np.random.Generator) -> float:
    """How bright filled lung is: about as soft tissue of the chest, above the lungs as they are."""
    outside = values[~lungs & (values > 10)]
    level = float(np.percentile(outside, generator.uniform(45, 90))) if outside.size else 200.0
    return min(250.0, max(level, float(np.percentile(values[lungs], 75)) + 15))


def _patches(places: _Places, generator: np.random.Generator) -> np.ndarray:
    sides, cloud = places.sides(generator), _clouds(places.shape, (5, 11, 23), generator)
    fill = np.zeros(places.shape, np.float32)
    for _ in range(int(generator.integers(1, 7))):
        y, x = places.centre(sides, generator)
        radius = places.scale * float(generator.uniform(0.06, 0.3))
        long, angle = float(generator.uniform(0.7, 1.6)), float(generator.uniform(0, np.pi))
        along = (places.y - y) * np.cos(angle) + (places.x - x) * np.sin(angle)
        across = (places.x - x) * np.cos(angle) - (places.y - y) * np.sin(angle)
        distance = np.sqrt((along / (radius * long)) ** 2 + (across / radius) ** 2)
        edge = float(generator.uniform(2, 7))
        fill = np.maximum(
            fill, generator.uniform(0.6, 1) / (1 + np.exp(edge * (distance - 0.8 + 0.3 * cloud).clip(-9, 9)))
        )
    return fill


def _diffuse(places: _Places, generator: np.random.Generator) -> np.ndarray:
    cloud = _clouds(places.shape, (3, 6, 13), generator)
    field = 0.55 + 0.3 * cloud + float(generator.uniform(-0.3, 0.5)) * (places.vertical - 0.5)
    return (field * places.sides(generator)).clip(0, 1) * float(generator.uniform(0.4, 0.9))


def _basal(places: _Places, generator: np.random.Generator) -> np.ndarray:
    # higher at the chest wall than at the mediastinum, as fluid stands
    level = float(generator.uniform(0.45, 0.95)) - float(generator.uniform(0, 0.25)) * (places.lateral - 0.4)
    cloud = _clouds(places.shape, (5, 11), generator)
    depth = (places.vertical - level + 0.03 * cloud) * float(generator.uniform(8, 40))
    return places.sides(generator) / (1 + np.exp(-depth.clip(-30, 30)))


def _lobar(places: _Places, generator: np.random.Generator) -> np.ndarray:
    slant = float(generator.uniform(-0.35, 0.35)) * (places.lateral - 0.5)
    top, height = float(generator.uniform(0, 0.75)), float(generator.uniform(0.2, 0.5))
    sharp = float(generator.uniform(15, 60))
    below, above = (
        1 / (1 + np.exp(-(sharp * distance).clip(-30, 30)))
        for distance in (places.vertical + slant - top, top + height - places.vertical - slant)
    )
    side = places.right if generator.random() < 0.5 else ~places.right
    return below * above * side * (0.8 + 0.2 * _clouds(places.shape, (6, 14), generator)).clip(0, 1)


def _reticular(places: _Places, generator: np.random.Generator) -> np.ndarray:
    cloud = _clouds(places.shape, (3, 7), generator)
    return ((0.4 + 0.4 * cloud + 0.5 * places.vertical) * places.sides(generator)).clip(0, 1)


def _lines(places: _Places, generator: np.random.Generator) -> np.ndarray:
    """A net of short lines, gray levels around 0."""
    noise = generator.standard_normal(places.shape).astype(np.float32)
    width = max(0.7, places.scale / float(generator.uniform(70, 160)))
    band = cv2.GaussianBlur(noise, (0, 0), width) - cv2.GaussianBlur(noise, (0, 0), 2 * width)
    return np.abs(band) / (band.std() + 1e-6) * float(generator.uniform(3, 11))


def _clouds(shape: tuple[int, ...], cells: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    """Smooth noise of several scales, mean 0 and deviation about 1."""
    total = np.zeros(shape, np.float32)
    for n, count in enumerate(cells):
        grid = generator.standard_normal((count, count)).astype(np.float32)
        total += cv2.resize(grid, shape[::-1], interpolation=cv2.INTER_CUBIC) / (n + 1)
    return (total - total.mean()) / (total.std() + 1e-6)


_FILLS = {"patches": _patches, "diffuse": _diffuse, "basal": _basal, "lobar": _lobar, "reticular": _reticular}
