"""Does a heatmap point at the truth? Shares of heat inside lungs and lesion, and the pointing game.

Truth comes from phantoms (lungs and lesions are known) or from the segmenter's lungs. A map can only be wrong about
the lesion; a good score does not prove that the model is right for the right reason.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from enhancement.errors import InputError


@dataclass(frozen=True)
class HeatmapScore:
    """How one heatmap lies on the truth; None where it can't be said (no heat, no lungs, no lesion).

    Attributes
    ----------
    heat_in_lungs, heat_in_lesion : float or None
        Share of all heat inside, 0..1.
    lungs_area, lesion_area : float or None
        Share of the radiograph inside: what a heatmap that knows nothing would score.
    hit : bool or None
        The hottest point lies on the lesion (within the tolerance).
    """

    heat_in_lungs: float | None
    heat_in_lesion: float | None
    lungs_area: float | None
    lesion_area: float | None
    hit: bool | None


def score_heatmap(
    heatmap: np.ndarray, lungs: np.ndarray | None = None, lesion: np.ndarray | None = None, *, tolerance: float = 0.02
) -> HeatmapScore:
    """Score one heatmap; see `fraction_inside` and `pointing_game`.

    Parameters
    ----------
    heatmap : float [H, W]
        Heat of 0 and more; below 0 counts as 0.
    lungs, lesion : bool [H, W], optional
        The truth. Empty counts as absent.
    tolerance : float
        Of the pointing game, as a share of the longer side.
    """
    lungs = lungs if lungs is not None and np.any(lungs) else None
    lesion = lesion if lesion is not None and np.any(lesion) else None
    return HeatmapScore(
        heat_in_lungs=None if lungs is None else fraction_inside(heatmap, lungs),
        heat_in_lesion=None if lesion is None else fraction_inside(heatmap, lesion),
        lungs_area=None if lungs is None else float(np.mean(lungs)),
        lesion_area=None if lesion is None else float(np.mean(lesion)),
        hit=None if lesion is None else pointing_game(heatmap, lesion, tolerance=tolerance),
    )


def fraction_inside(heatmap: np.ndarray, mask: np.ndarray) -> float | None:
    """Share of a map's heat that lies inside a mask: the energy-based pointing game (Wang et al. 2020, Score-CAM).

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


def summarize(scores: Iterable[HeatmapScore]) -> dict[str, float | int | None]:
    """Means over heatmaps, each over those where it can be said.

    Returns
    -------
    dict
        ``count`` of heatmaps, and the mean of each attribute of `HeatmapScore`, None where none has it.
    """
    scores = list(scores)
    names = HeatmapScore.__dataclass_fields__
    columns = {name: [value for s in scores if (value := getattr(s, name)) is not None] for name in names}
    return {"count": len(scores), **{n: float(np.mean(v)) if v else None for n, v in columns.items()}}


def _heat(heatmap, mask) -> np.ndarray:
    heatmap = np.asarray(heatmap)
    if heatmap.ndim != 2 or heatmap.shape != np.shape(mask):
        raise InputError(f"heatmap of shape {heatmap.shape}, mask of shape {np.shape(mask)} given: one [H, W] expected")
    return np.nan_to_num(np.maximum(heatmap, 0), posinf=0.0)
