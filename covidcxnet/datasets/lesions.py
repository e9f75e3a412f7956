"""The phantom on film: lesions that fill lung, then absorption, scatter, quantum noise, detector and display."""

from __future__ import annotations

import cv2
import numpy as np

from covidcxnet.datasets.phantom_anatomy import Torso

# per cm at about 70 keV: water-like tissue, inflated lung (0.26 of water), rib and vertebra with their marrow
MU_SOFT, MU_LUNG, MU_BONE = 0.19, 0.05, 0.34


def lesion_path(label: str, torso: Torso, rng, now, size: int) -> np.ndarray:
    """Centimetres of lung filled along each ray, float32 [S, S].

    `rng` draws what all radiographs of a patient share, `now` how far the lesion has waxed or waned in this one.
    """
    strength = float(np.exp(rng.normal(0, 0.5)) * np.exp(now.normal(0, 0.15)))
    cloud = _clouds(rng, size)
    fill = np.zeros((size, size), np.float32)
    if label == "pneumonia":
        side = rng.choice([-1, 1])
        v, u = rng.uniform(0.2, 0.9), rng.uniform(0.25, 0.75)
        fill = _blob(torso, side, u, v, rng.uniform(0.38, 0.65), rng.uniform(0.18, 0.32), cloud, 0.45)
        if rng.random() < 0.6:  # a fissure cuts it off sharply
            sign = rng.choice([-1, 1])
            edge = v - sign * rng.uniform(-0.02, 0.1)  # the middle stays on the side that is kept
            slant = rng.normal(0, 0.08) * (torso.lateral - 0.5)
            fill = fill * np.clip(0.5 + sign * (torso.vertical + slant - edge) * 40, 0, 1)
        fill = 1.5 * strength * fill
    else:
        for side in (-1, 1):
            for _ in range(rng.integers(2, 5)):
                v, u = np.clip(rng.normal(0.72, 0.17), 0.2, 1.0), rng.uniform(0.68, 0.98)
                fill = np.maximum(
                    fill,
                    rng.uniform(0.6, 1.0)
                    * _blob(torso, side, u, v, rng.uniform(0.14, 0.32), rng.uniform(0.08, 0.18), cloud, 0.7),
                )
        fill = 0.85 * strength * fill
    filled = 0.9 * (1 - np.exp(-fill / 0.9))  # what is full cannot be filled further
    return filled * np.clip(torso.lung, 0, 9.0) * torso.lungs


def expose(torso: Torso, lesion: np.ndarray, rng) -> np.ndarray:
    """Beer-Lambert, scatter, quantum noise, detector, and the processing that every digital system applies.

    Scatter, window and local equalisation follow the torso without its lesion: the lesion changes the image where it
    is and nowhere else.
    """
    size = lesion.shape[0]
    healthy = MU_SOFT * torso.soft + MU_LUNG * torso.lung + MU_BONE * torso.bone
    primary = np.exp(-healthy)
    scatter = rng.uniform(0.15, 0.5) * _spread(np.minimum(primary, 0.12), 0.09)
    clean = primary + scatter
    signal = np.exp(-(healthy + (MU_SOFT - MU_LUNG) * lesion)) + scatter
    blur = rng.uniform(0.35, 0.8) * size / 256
    photons = np.exp(rng.uniform(np.log(2e4), np.log(4e5))) * (256 / size) ** 2
    noise = cv2.GaussianBlur(rng.standard_normal(signal.shape).astype(np.float32), (0, 0), 0.5)
    signal = cv2.GaussianBlur(signal, (0, 0), blur)
    signal = signal + 1.6 * noise * np.sqrt(signal / photons)
    density = -np.log(np.clip(signal, 1e-4, None))
    reference = -np.log(clean)
    inside = torso.soft > 3
    low = _spread(np.minimum(reference, 6), 0.10)
    keep = rng.uniform(0.55, 0.9)
    density, reference = density - (1 - keep) * low, reference - (1 - keep) * low
    bottom, top = np.percentile(reference[inside], [rng.uniform(0.5, 3.0), rng.uniform(98.0, 99.8)])
    value = (density - bottom) / (top - bottom)
    value = np.clip(value * rng.uniform(0.85, 1.0) + rng.uniform(0.0, 0.12), 0, 1) ** rng.uniform(0.8, 1.3)
    return np.round(255 * value).astype(np.uint8)


def _blob(torso: Torso, side, u, v, ru, rv, cloud, rough):
    """A soft patch in the lung's own coordinates: u from mediastinum to chest wall, v from apex to dome."""
    r = np.sqrt(((torso.lateral - u) / ru) ** 2 + ((torso.vertical - v) / rv) ** 2) + rough * 0.5 * cloud
    return (torso.side == side) * np.clip(1.25 - r, 0, 1) * np.clip(0.85 + 0.3 * rough * cloud, 0, 1.5)


def _clouds(rng, size: int) -> np.ndarray:
    """Noise over several scales, mean 0, deviation about 1; the same cloud at every size."""
    total = np.zeros((size, size), np.float32)
    for cells, weight in ((5, 1.0), (11, 0.7), (23, 0.5), (47, 0.3)):
        grid = rng.standard_normal((cells, cells)).astype(np.float32)
        total += weight * cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC)
    return total


def _spread(image: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur by a fraction of the side; so wide a blur is done on a small copy."""
    small = cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA)
    return cv2.resize(cv2.GaussianBlur(small, (0, 0), 64 * sigma), image.shape[::-1], interpolation=cv2.INTER_CUBIC)
