"""From a soft map to lungs: threshold, the two largest components, no holes."""

from __future__ import annotations

import cv2
import numpy as np

# A second component below this share of the largest is a speck, not a lung.
SPECK = 0.05


def clean_map(
    probability: np.ndarray, threshold: float = 0.5, components: int = 2, fill_holes: bool = True
) -> np.ndarray:
    """A soft map ``float32 [H, W]`` of 0..1 without what is not lung.

    Everything outside the largest components becomes 0 and holes in them become 1; the rest stays soft, so that the map
    can be enlarged and cut at `threshold` with a smooth outline. All 0 where no pixel reaches the threshold.
    """
    lungs = clean_mask(probability >= threshold, components, fill_holes)
    if not lungs.any():
        return np.zeros(probability.shape, np.float32)
    # One pixel of soft border on each side keeps the outline where linear interpolation puts it.
    near = cv2.dilate(lungs.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    cleaned = np.where(near, probability, 0).astype(np.float32)
    cleaned[lungs & (probability < threshold)] = 1.0
    # Pixels of a dropped component next to it may touch the border: they stay below the threshold.
    cleaned[~lungs & (cleaned >= threshold)] = 0.0
    return cleaned


def clean_mask(mask: np.ndarray, components: int = 2, fill_holes: bool = True) -> np.ndarray:
    """The same for a mask: ``bool [H, W]`` in and out."""
    labels, areas = _components(mask)
    largest = np.argsort(-areas)[:components]
    kept = np.zeros(len(areas) + 1, bool)
    kept[[1 + k for k in largest if areas[k] >= SPECK * areas.max()]] = True
    lungs = kept.take(labels)
    if not fill_holes or not lungs.any():
        return lungs
    # Background that cannot be reached from outside is a hole; the border of one pixel joins all of the outside.
    background = cv2.copyMakeBorder((~lungs).view(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=1)
    cv2.floodFill(background, None, (0, 0), 0)
    return lungs | background[1:-1, 1:-1].view(bool)


def component_areas(mask: np.ndarray) -> np.ndarray:
    """Areas in pixels of the 8-connected components of a bool mask, largest first."""
    return np.sort(_components(mask)[1])[::-1]


def _components(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Label image (0 is background) and areas of the 8-connected components."""
    # Without OpenCV's statistics, which take four times as long as the labels.
    _, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    return labels, np.bincount(labels[mask])[1:]
