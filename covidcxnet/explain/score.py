"""Whether a heatmap points at the truth, which phantoms (lungs, lesions) or a segmenter (lungs) tell.

A map can only be wrong about the lesion: a good score does not prove that the model is right for the right reason.
"""

from __future__ import annotations

import numpy as np

from enhancement.errors import InputError


def fraction_inside(heatmap: np.ndarray, mask: np.ndarray) -> float | None:
    """Share 0..1 of the heat of ``float [H, W]`` that lies inside a mask ``bool [H, W]``; None where there is no heat.

    The energy-based pointing game (Wang et al. 2020, Score-CAM). Negative and undefined heat counts as 0; a map that
    knows nothing scores the mask's share of the area.
    """
    heat = _heat(heatmap, mask)
    total = float(heat.sum(dtype="float64"))
    return float(heat[np.asarray(mask, bool)].sum(dtype="float64") / total) if total > 0 else None


def pointing_game(heatmap: np.ndarray, mask: np.ndarray, *, tolerance: float = 0.02) -> bool | None:
    """Whether the hottest point lies on a mask, or within `tolerance` of the longer side from it.

    The pointing game (Zhang et al. 2016, Excitation Backprop); where several points are the hottest, their centre
    counts. None for a map without heat or an empty mask.
    """
    heat = _heat(heatmap, mask)
    mask = np.asarray(mask, bool)
    if not mask.any() or not heat.max() > 0:
        return None
    peak = np.argwhere(heat == heat.max()).mean(axis=0)
    nearest = float(np.sqrt(((np.argwhere(mask) - peak) ** 2).sum(axis=1).min()))
    # A centre between four pixels of the mask lies on the mask too.
    return nearest <= max(0.75, tolerance * max(heat.shape))


def _heat(heatmap: np.ndarray, mask: np.ndarray) -> np.ndarray:
    heatmap = np.asarray(heatmap)
    if heatmap.ndim != 2 or heatmap.shape != np.shape(mask):
        raise InputError(f"heatmap of shape {heatmap.shape}, mask of shape {np.shape(mask)} given: one [H, W] expected")
    return np.nan_to_num(np.maximum(heatmap, 0), posinf=0.0)
