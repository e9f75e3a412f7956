"""What CAM and Grad-CAM share: what goes into a batch of maps, checked, and what comes out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from covidcxnet.explain.grid import Grid
from enhancement.errors import InputError

PREDICTED = -1
"""Stands for the class that the model predicts."""


@dataclass(frozen=True)
class Heatmaps:
    """CAM or Grad-CAM of some stacks.

    Attributes
    ----------
    maps : float32 [n, h, w]
        At the resolution of the feature maps, 0..1: each map's largest value is 1, or all are 0 where no place
        speaks for the class.
    probabilities : float32 [n, classes]
        Of the same forward pass, one column a class.
    targets : int64 [n]
        The class that each map explains.
    grid : Grid
        Where in the stack the cells of the maps look, for `grid.enlarge`.
    """

    maps: np.ndarray
    probabilities: np.ndarray
    targets: np.ndarray
    grid: Grid


def checked_stacks(stacks: Any, model: Any, name: str) -> np.ndarray:
    """Stacks ``[n, H, W, C]`` that fit the model; otherwise an `InputError` that begins with `name`."""
    stacks = np.asarray(stacks)
    shape = tuple(model.input_shape[1:])
    if stacks.ndim != 4 or any(w not in (None, h) for w, h in zip(shape, stacks.shape[1:], strict=True)):
        expected = ", ".join(map(str, shape))
        raise InputError(f"{name}: stacks of shape {stacks.shape} given, [n, {expected}] expected")
    return stacks


def checked_targets(class_index: Any, count: int, classes: int, name: str) -> np.ndarray:
    """Classes to explain, int32 [count], `PREDICTED` where none is given; an `InputError` for one that is none."""
    if class_index is None:
        return np.full(count, PREDICTED, "int32")
    targets = np.asarray(class_index)
    if targets.shape not in ((), (count,)) or targets.dtype.kind not in "iu":
        raise InputError(f"{name}: class_index {class_index!r} given, one int or {count} of them expected")
    if targets.size and not (targets.min() >= 0 and targets.max() < classes):
        raise InputError(f"{name}: class_index {class_index!r} given, 0 to {classes - 1} expected")
    return np.broadcast_to(targets, (count,)).astype("int32")


def in_batches(
    run: Callable, stacks: np.ndarray, targets: np.ndarray, batch_size: int, features: Any, classes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Maps, probabilities and classes explained, joined over batches.

    Parameters
    ----------
    run : callable
        ``run(stacks, targets)`` gives the three of a batch.
    features : (height, width)
        Of the maps; None where unknown. No stacks at all give arrays of the right shape, from no pass.
    """
    if not len(stacks):
        empty = (0, *(side or 0 for side in features))
        return np.zeros(empty, "float32"), np.zeros((0, classes), "float32"), targets.astype("int64")
    starts = range(0, len(stacks), batch_size)
    parts = [run(stacks[i : i + batch_size], targets[i : i + batch_size]) for i in starts]
    maps, probabilities, explained = (np.concatenate(column) for column in zip(*parts, strict=True))
    return maps, probabilities, explained.astype("int64")
