"""Erasing from pooled features what simple statistics of the input tell, so that a head cannot lean on it.

Border, grey levels and sharpness say where and how a radiograph was made, and with that often its label. The
directions of the features along which those statistics show, within one place and class, are projected out of what the
head's first layer may use, with the least change to the features (Belrose et al. 2023, "LEACE: perfect linear concept
erasure in closed form", theorem 4.3, here with the strongest directions alone). The projection lies in that layer's
kernel: the network keeps its shape.
"""

from __future__ import annotations

import keras
import numpy as np

_RIDGE = 0.01  # added to the variance, 1, of each standardised feature


def erasing_projection(features: np.ndarray, statistics: np.ndarray, groups: np.ndarray, directions: int) -> np.ndarray:
    """Projection P of features ``x`` (as ``P @ x``) that takes out what tells statistics within groups.

    Parameters
    ----------
    features : float [N, F]
    statistics : float [N, S]
    groups : array [N]
        Images are compared with those of their own group only, such as one source and class; what differs between
        groups is left alone.
    directions : int
        How many, those of the largest correlation with the statistics first; 0 takes out none.

    Returns
    -------
    float32 [F, F]
        Idempotent, of rank F less `directions`, or less those of any correlation where they are fewer.
    """
    features, statistics = np.asarray(features, np.float64), np.asarray(statistics, np.float64)
    scale = features.std(axis=0)
    scale[scale == 0] = 1
    spread = statistics.std(axis=0)
    x, z = _centred(features / scale, groups), _centred(statistics / np.where(spread == 0, 1, spread), groups)
    values, vectors = np.linalg.eigh(x.T @ x / len(x) + _RIDGE * np.eye(x.shape[1]))
    whiten, colour = (vectors * values**-0.5) @ vectors.T, (vectors * values**0.5) @ vectors.T
    told, strength, _ = np.linalg.svd(whiten @ (x.T @ z / len(x)), full_matrices=False)
    told = told[:, : min(directions, np.count_nonzero(strength > 1e-12))]
    projection = np.eye(len(scale)) - colour @ told @ told.T @ whiten
    return (scale[:, None] * projection / scale).astype(np.float32)


class Erased(keras.constraints.Constraint):
    """Constraint of a dense layer's kernel ``[F, units]``: it sees projected features only.

    Parameters
    ----------
    projection : float [F, F]
        From `erasing_projection`.
    """

    def __init__(self, projection: np.ndarray):
        self.projection = keras.ops.convert_to_tensor(np.asarray(projection, np.float32).T)

    def __call__(self, w):
        """The kernel that gives of features what `w` gives of their projection."""
        return keras.ops.matmul(self.projection, w)


def erase(head: keras.Model, projection: np.ndarray) -> None:
    """Let the first dense layer of a head see projected features only, now and while it trains."""
    kernel = next(layer for layer in head.layers if isinstance(layer, keras.layers.Dense)).kernel
    kernel.constraint = Erased(projection)
    kernel.assign(kernel.constraint(kernel))


def _centred(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    _, number = np.unique(groups, return_inverse=True)
    sums = np.zeros((number.max() + 1, values.shape[1]))
    np.add.at(sums, number, values)
    return values - (sums / np.bincount(number)[:, None])[number]
