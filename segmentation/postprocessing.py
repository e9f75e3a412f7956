"""From a soft map to lungs: threshold, keep the two largest components, fill holes."""

from __future__ import annotations

import cv2
import numpy as np

# A second component below this share of the largest is a speck, not a lung.
SPECK = 0.05


def clean_map(
    probability: np.ndarray, threshold: float = 0.5, components: int = 2, fill_holes: bool = True
) -> np.ndarray:
    """A soft map without what is not lung.

    Everything outside the largest components becomes 0 and holes in them become 1; the rest stays soft, so that the
    map can be enlarged and cut at `threshold` with a smooth outline.

    Parameters
    ----------
    probability : ndarray, float32 [H, W]
        0..1.
    threshold : float
        Probability from which a pixel is lung.
    components : int
        How many of the largest components to keep at most; specks below 5% of the largest never count.
    fill_holes : bool

    Returns
    -------
    ndarray, float32 [H, W]
        All 0 where no pixel reaches the threshold.
    """
    kept = clean_mask(probability >= threshold, components, fill_holes)
    if not kept.any():
        return np.zeros(probability.shape, np.float32)
    # One pixel of soft border on each side keeps the outline where linear interpolation puts it.
    near = cv2.dilate(kept.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    cleaned = np.where(near, probability, 0).astype(np.float32)
    cleaned[kept & (probability < threshold)] = 1.0
    # Pixels of a neighbouring, dropped component may touch the border: keep them below the threshold.
    cleaned[~kept & (cleaned >= threshold)] = 0.0
    return cleaned


def clean_mask(mask: np.ndarray, components: int = 2, fill_holes: bool = True) -> np.ndarray:
    """The same for a mask: ``bool [H, W]`` in and out."""
    count, labels, sizes, _ = _components(mask)
    order = np.argsort(-sizes)[:components]
    kept = [k for k in order if sizes[k] >= SPECK * sizes.max()] if count else []
    result = np.isin(labels, np.array(kept, int) + 1)
    return _filled(result) if fill_holes and result.any() else result


def component_areas(mask: np.ndarray) -> np.ndarray:
    """Areas in pixels of the 8-connected components of a bool mask, largest first."""
    return np.sort(_components(mask)[2])[::-1]


def _components(mask: np.ndarray):
    """Count, label image (0 is background), areas and centroids of the 8-connected components."""
    count, labels, stats, centroids = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    return count - 1, labels, stats[1:, cv2.CC_STAT_AREA], centroids[1:]


def _filled(mask: np.ndarray) -> np.ndarray:
    # Background that cannot be reached from outside is a hole; the border of one pixel joins all of the outside.
    outside = np.pad(~mask, 1, constant_values=True).astype(np.uint8)
    _, labels = cv2.connectedComponents(outside, connectivity=4)
    return (labels != labels[0, 0])[1:-1, 1:-1]
