"""Joint augmentation of a radiograph and its lung mask: place, exposure, opacities, foreign objects, image quality.

Strong on purpose: the network will meet hospitals, exposures and opacified lungs that its training pairs do not show.
Works on ``uint8`` before CLAHE, so that what CLAHE makes of a poor exposure is learnt too.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from .regions import Frame


@dataclass(frozen=True)
class MaskAugmentation:
    """Ranges of the augmentation; each step has its own chance."""

    rotation: float = 15.0  # degrees to either side
    shift: float = 0.1  # fraction of the side
    scale: tuple[float, float] = (0.75, 1.35)  # smallest and largest enlargement
    aspect: float = 0.1  # how much more than the height the width may be scaled: 0.1 is 0.9 to 1.1
    flip: float = 0.5  # chance of a left-right flip; never upside down, as a frontal radiograph has a top
    exposure: float = 0.8  # chance of another gamma, brightness, contrast and illumination gradient
    opacity: float = 0.5  # chance of shadows that imitate consolidation and effusion, which stay part of the lungs
    objects: float = 0.3  # chance of tubes, letters and blocks
    quality: float = 0.6  # chance of blur, lower resolution, noise and JPEG artefacts


# By name; "mild" is for the last epochs of a network that has learnt with "strong".
AUGMENTATIONS = {
    "strong": MaskAugmentation(),
    "mild": MaskAugmentation(8.0, 0.05, (0.9, 1.12), 0.05, exposure=0.5, opacity=0.15, objects=0.1, quality=0.3),
    "none": None,
}


def augment(
    image: np.ndarray,
    mask: np.ndarray,
    frame: Frame,
    generator: np.random.Generator,
    settings: MaskAugmentation = MaskAugmentation(),
) -> tuple[np.ndarray, np.ndarray]:
    """Place a radiograph ``uint8 [H, W]`` and its mask ``bool [H, W]`` in the network's square at random, and
    degrade the radiograph. `frame` says where it lies without augmentation. Returns both as ``[S, S]``.
    """
    matrix = _placement(frame, generator, settings)
    # Borders are black on most radiographs, gray or white on some.
    border = 0 if generator.random() < 0.7 else int(generator.integers(0, 256))
    shape = (frame.size, frame.size)
    if frame.inner_height * frame.inner_width < 0.5 * image.size:
        image = cv2.GaussianBlur(image, (3, 3), 0)  # warpAffine does not average over areas
    image = cv2.warpAffine(image, matrix, shape, flags=cv2.INTER_LINEAR, borderValue=border)
    soft = cv2.warpAffine(mask.astype(np.float32), matrix, shape, flags=cv2.INTER_LINEAR)
    mask = soft >= 0.5
    values = image.astype(np.float32)
    if generator.random() < settings.opacity:
        values = _opacities(values, soft, generator)
    if generator.random() < settings.exposure:
        values = _exposure(values, generator)
    if generator.random() < settings.objects:
        values = _objects(values, generator)
    if generator.random() < settings.quality:
        values = _quality(values, generator)
    return values.clip(0, 255).astype(np.uint8), mask


def _placement(frame: Frame, generator: np.random.Generator, settings: MaskAugmentation) -> np.ndarray:
    """Affine matrix from the radiograph's pixels to the square's."""
    box_height, box_width = frame.bottom - frame.top, frame.right - frame.left
    scale_x, scale_y = frame.inner_width / box_width, frame.inner_height / box_height
    to_square = np.array(
        [
            [scale_x, 0, frame.inner_left - (frame.left - 0.5) * scale_x - 0.5],
            [0, scale_y, frame.inner_top - (frame.top - 0.5) * scale_y - 0.5],
            [0, 0, 1],
        ]
    )
    centre = (frame.size - 1) / 2
    angle = np.deg2rad(generator.uniform(-settings.rotation, settings.rotation))
    scale = np.exp(generator.uniform(*np.log(settings.scale)))
    wider = 1 + generator.uniform(-settings.aspect, settings.aspect)
    mirror = -1.0 if generator.random() < settings.flip else 1.0
    cosine, sine = np.cos(angle) * scale, np.sin(angle) * scale
    turn = np.array([[cosine * wider * mirror, -sine, 0], [sine * wider * mirror, cosine, 0], [0, 0, 1]])
    move = generator.uniform(-settings.shift, settings.shift, 2) * frame.size
    back = np.array([[1, 0, centre + move[0]], [0, 1, centre + move[1]], [0, 0, 1]])
    away = np.array([[1, 0, -centre], [0, 1, -centre], [0, 0, 1]])
    return (back @ turn @ away @ to_square)[:2]


def _smooth_noise(size: int, cells: int, generator: np.random.Generator) -> np.ndarray:
    """A random field of about `cells` bumps a side, 0..1."""
    coarse = generator.random((cells + 2, cells + 2), np.float32)
    return cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC).clip(0, 1)


def _opacities(values: np.ndarray, soft: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Shadows in the lungs: patches (ground-glass, consolidation) or everything below a level (effusion, white-out)."""
    size = len(values)
    lungs = cv2.GaussianBlur(soft, (0, 0), size / 100)
    outside = values[soft < 0.5]
    # Consolidated lung is about as bright as the soft tissue around it.
    level = np.percentile(outside, generator.uniform(60, 98)) if outside.size else 200.0
    noise = _smooth_noise(size, int(generator.integers(2, 9)), generator)
    sharp = generator.uniform(4, 25)
    where = 1 / (1 + np.exp(-sharp * (noise - generator.uniform(0.3, 0.65))))
    kind = generator.random()
    rows, columns = np.flatnonzero((soft > 0.5).any(axis=1)), np.flatnonzero((soft > 0.5).any(axis=0))
    if kind < 0.35 and rows.size:
        start = generator.uniform(rows[0], rows[-1])
        slope = generator.uniform(-0.3, 0.3)
        height = np.arange(size)[:, None] - start - slope * (np.arange(size)[None] - size / 2)
        where = 1 / (1 + np.exp(-height * generator.uniform(0.1, 1.0)))
    if kind < 0.6 and columns.size:
        middle = (columns[0] + columns[-1]) / 2
        side = (np.arange(size) > middle) if generator.random() < 0.5 else (np.arange(size) < middle)
        where = where * side[None]
    texture = 1 + 0.15 * (_smooth_noise(size, int(generator.integers(20, 60)), generator) - 0.5)
    alpha = where * lungs * generator.uniform(0.3, 1.0)
    return values * (1 - alpha) + level * texture * alpha


def _exposure(values: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    if generator.random() < 0.15:
        values = cv2.equalizeHist(values.clip(0, 255).astype(np.uint8)).astype(np.float32)
    values = 255 * (values.clip(0, 255) / 255) ** np.exp(generator.uniform(-0.6, 0.6))
    if generator.random() < 0.4:
        gradient = _smooth_noise(len(values), 1, generator) - 0.5
        values = values * (1 + generator.uniform(0.1, 0.7) * gradient)
    contrast = generator.uniform(0.55, 1.3)
    return (values - 127) * contrast + 127 + generator.uniform(-30, 30)


def _objects(values: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Tubes and wires, letters, and blocks of one gray level."""
    values, size = values.copy(), len(values)
    for _ in range(generator.integers(0, 4)):
        knots = np.cumsum(generator.normal(0, size / 12, (8, 2)), axis=0) + generator.uniform(0, size, 2)
        layer = np.zeros(values.shape, np.uint8)
        thick = int(generator.integers(1, 4))
        cv2.polylines(layer, [np.round(knots).astype(np.int32)], False, int(generator.integers(20, 120)), thick)
        values = values + cv2.GaussianBlur(layer, (3, 3), 0)
    for _ in range(generator.integers(0, 3)):
        place = tuple(int(v) for v in generator.integers(0, size, 2))
        text = "".join(chr(c) for c in generator.integers(65, 91, generator.integers(1, 4)))
        big = float(generator.uniform(0.3, 1.2)) * size / 256
        layer = np.zeros(values.shape, np.uint8)
        cv2.putText(layer, text, place, cv2.FONT_HERSHEY_SIMPLEX, big, 255, int(generator.integers(1, 4)))
        values = np.where(layer > 0, np.float32(generator.choice([0, 255])), values)
    for _ in range(generator.integers(0, 3)):
        top, left = generator.integers(0, size, 2)
        height, width = generator.integers(size // 32, size // 5, 2)
        values[top : top + height, left : left + width] = generator.uniform(0, 255)
    return values


def _quality(values: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    size = len(values)
    if generator.random() < 0.4:
        values = cv2.GaussianBlur(values, (0, 0), generator.uniform(0.3, 1.6) * size / 256)
    if generator.random() < 0.3:
        small = max(8, int(size * generator.uniform(0.3, 0.9)))
        values = cv2.resize(values, (small, small), interpolation=cv2.INTER_AREA)
        values = cv2.resize(values, (size, size), interpolation=cv2.INTER_LINEAR)
    if generator.random() < 0.4:
        values = values + generator.normal(0, generator.uniform(1, 10), values.shape).astype(np.float32)
    if generator.random() < 0.3:
        quality = int(generator.integers(15, 90))
        _, data = cv2.imencode(".jpg", values.clip(0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, quality])
        values = np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), np.float32)
    return values
