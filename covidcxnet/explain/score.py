"""Whether a heatmap points at the truth, which phantoms (lungs, lesions) or a segmenter (lungs) tell.

A map can only be wrong about the lesion: a good score does not prove that the model is right for the right reason.
"""

from __future__ import annotations

import numpy as np

from enhancement.errors import InputError


def fraction_inside(heatmap: np.ndarray, mask: np.ndarray) -> float | None:
    """Share of a map's heat that lies inside a mask: the energy-based pointing game (Wang et al. 2020, Score-CAM).

    A map that knows nothing scores the mask's share of the area.

    Parameters
    ----------
    heatmap : float [H, W]
        Heat; negative and undefined values count as 0.
    mask : bool [H, W]
        The truth.

    Returns
    -------
    float or None
        0..1; None for a map without heat.

    Raises
    ------
    InputError
        If the shapes differ.

    Examples
    --------
    >>> fraction_inside(np.array([[3.0, 1.0]]), np.array([[True, False]]))
    0.75
    """
    heat = _heat(heatmap, mask)
    total = float(heat.sum(dtype="float64"))
    return float(heat[np.asarray(mask, bool)].sum(dtype="float64") / total) if total > 0 else None


def pointing_game(heatmap: np.ndarray, mask: np.ndarray, *, tolerance: float = 0.02) -> bool | None:
    """Whether the hottest point lies on a mask, or close to it (Zhang et al. 2016, Excitation Backprop).

    Parameters
    ----------
    heatmap : float [H, W]
        Heat; where several points are the hottest, their centre counts.
    mask : bool [H, W]
        The truth.
    tolerance : float
        Allowed distance as a share of the longer side.

    Returns
    -------
    bool or None
        None for a map without heat or an empty mask.
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
