"""What says little of disease and much of the place: border, grey levels, sharpness, corners and size of an image."""

from __future__ import annotations

import cv2
import numpy as np

_SIDE, _BORDER, _CORNER, _LEVELS = 256, 8, 40, 16

FEATURES: dict[str, tuple[str, ...]] = {
    "size": ("width", "height"),
    "aspect": ("aspect ratio",),
    "grey levels": (*(f"share of level {i}" for i in range(_LEVELS)), "mean", "spread", "levels used"),
    "border": tuple(f"{side} {what}" for side in ("top", "bottom", "left", "right") for what in ("mean", "spread")),
    "corners": tuple(
        f"{place} {what}" for place in ("tl", "tr", "bl", "br") for what in ("mean", "brightest", "edges")
    ),
    "sharpness": ("fine", "medium", "coarse", "blocks"),
}
"""Kind of feature to its names, in the order of `shortcuts`."""

COUNT = sum(map(len, FEATURES.values()))

FEWEST = 20
"""Images of each value that a probe needs."""

FOLDS = 5
"""Of its cross-validation, and so the patients of each value that it needs."""


def shortcuts(image: np.ndarray) -> np.ndarray:
    """Features of an image ``uint8 [H, W]``, float32 [COUNT]; sizes as logarithms, grey levels of 255."""
    height, width = image.shape
    small = cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    levels = np.bincount(image.ravel() >> 4, minlength=_LEVELS) / image.size
    used = np.count_nonzero(np.bincount(image.ravel(), minlength=256))
    values = [np.log(width), np.log(height), np.log(width / height), *levels, image.mean(), image.std(), used]
    for strip in (small[:_BORDER], small[-_BORDER:], small[:, :_BORDER], small[:, -_BORDER:]):
        values += [strip.mean(), strip.std()]
    edges = cv2.Laplacian(small.astype(np.float32), cv2.CV_32F)
    for rows in (slice(0, _CORNER), slice(-_CORNER, None)):
        for columns in (slice(0, _CORNER), slice(-_CORNER, None)):
            corner = small[rows, columns]
            values += [corner.mean(), np.percentile(corner, 99), np.log1p(np.abs(edges[rows, columns]).mean())]
    at: np.ndarray = small.astype(np.float32)
    for _ in range(3):
        values.append(np.log1p(cv2.Laplacian(at, cv2.CV_32F).std()))
        at = cv2.pyrDown(at)
    values.append(_blocks(image))
    return np.array(values, np.float32)


def tell_apart(
    features: np.ndarray, values: np.ndarray, patients: np.ndarray, *, seed: int = 0, method: str = "predict"
) -> np.ndarray:
    """What a linear probe of standardised features says of each image when its patient is not among those it learnt.

    Parameters
    ----------
    features : np.ndarray
        float [N, F].
    values : np.ndarray
        [N], what is told.
    patients : np.ndarray
        int [N]; images of one patient stay on one side of each fold.
    seed : int
        Of the folds.
    method : {"predict", "decision_function"}
        The value, or how far on the side of the second of two values an image lies.

    Returns
    -------
    np.ndarray
        [N].
    """
    from sklearn.linear_model import RidgeClassifier
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    model = make_pipeline(StandardScaler(), RidgeClassifier(1.0, class_weight="balanced"))
    return cross_val_predict(model, features, values, groups=patients, cv=folds, method=method)


def _blocks(image: np.ndarray) -> float:
    """Steps at multiples of 8 pixels over those elsewhere, as a logarithm: what JPEG leaves."""
    steps = np.abs(np.diff(image.astype(np.int16), axis=1)).mean(axis=0)
    at = np.arange(1, image.shape[1]) % 8 == 0
    return float(np.log((steps[at].mean() + 0.5) / (steps[~at].mean() + 0.5))) if at.any() and (~at).any() else 0.0
