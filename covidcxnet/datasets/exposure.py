"""From path lengths to grey levels: absorption, scatter, quantum noise, detector, display."""

from __future__ import annotations

import cv2
import numpy as np

from covidcxnet.datasets.torso import Torso

# per cm at about 70 keV: water-like tissue, inflated lung (0.26 of water), rib and vertebra with their marrow
MU_SOFT, MU_LUNG, MU_BONE = 0.19, 0.05, 0.34


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
    seen = np.exp(-(healthy + (MU_SOFT - MU_LUNG) * lesion)) + scatter
    blur = rng.uniform(0.35, 0.8) * size / 256
    photons = np.exp(rng.uniform(np.log(2e4), np.log(4e5))) * (256 / size) ** 2
    noise = cv2.GaussianBlur(rng.standard_normal(seen.shape).astype(np.float32), (0, 0), 0.5)
    seen = cv2.GaussianBlur(seen, (0, 0), blur)
    seen = seen + 1.6 * noise * np.sqrt(seen / photons)
    density = -np.log(np.clip(seen, 1e-4, None))
    reference = -np.log(clean)
    inside = torso.soft > 3
    low = _spread(np.minimum(reference, 6), 0.10)
    keep = rng.uniform(0.55, 0.9)
    density, reference = density - (1 - keep) * low, reference - (1 - keep) * low
    bottom, top = np.percentile(reference[inside], [rng.uniform(0.5, 3.0), rng.uniform(98.0, 99.8)])
    value = (density - bottom) / (top - bottom)
    value = np.clip(value * rng.uniform(0.85, 1.0) + rng.uniform(0.0, 0.12), 0, 1) ** rng.uniform(0.8, 1.3)
    return np.round(255 * value).astype(np.uint8)


def _spread(image: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur by a fraction of the side; so wide a blur is done on a small copy."""
    small = cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA)
    return cv2.resize(cv2.GaussianBlur(small, (0, 0), 64 * sigma), image.shape[::-1], interpolation=cv2.INTER_CUBIC)
