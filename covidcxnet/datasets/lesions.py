"""Lesions of the phantom: where lung is filled, and how much of each ray it takes."""

from __future__ import annotations

import cv2
import numpy as np

from covidcxnet.datasets.torso import Torso


def lesion_path(label, torso: Torso, rng, now, size: int) -> np.ndarray:
    """Centimetres of lung filled, along each ray."""
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
