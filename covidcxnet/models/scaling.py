"""Scaling of the 0..255 stack inside a model's graph: by name, or by the mean and deviation of each plane."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from enhancement.errors import InputError
from segmentation.backend import ops

NORMALIZATIONS = ("unit", "symmetric", "imagenet", "radiograph", "caffe", "lite", "none")
TRAINING = "training"  # in a recipe: the statistics of its training images, which train puts in its place

# Of x/255, like the statistics that `check_statistics` takes.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# Of NIH ChestX-ray14, as much public code for radiographs has them ("chestx-ray" there, beside "imagenet").
# One number for every plane: a radiograph has no colours.
RADIOGRAPH_MEAN = 0.5056
RADIOGRAPH_STD = 0.252
CAFFE_MEAN = (103.939, 116.779, 123.68)  # blue, green, red; of 0..255

Normalization = str | Mapping[str, Any]


def scale(stack, normalization: Normalization):
    """Bring a 0..255 Keras tensor ``[N, S, S, C]`` to the range that a network expects, as graph operations.

    `normalization` is one of `NORMALIZATIONS`, or ``{"mean": [...], "std": [...]}`` of x/255, one number each plane.
    """
    planes = stack.shape[-1]
    if not isinstance(normalization, str):
        return _standardised(stack, **check_statistics(normalization, planes))
    if normalization == "unit":
        return ops.divide(stack, 255.0)
    if normalization == "symmetric":
        return ops.divide(ops.subtract(stack, 127.5), 127.5)
    if normalization == "lite":
        # EfficientNet-Lite's own, whole numbers so that eight bits hold them.
        return ops.divide(ops.subtract(stack, 127.0), 128.0)
    if normalization == "none":
        # Something must stand between input and network, so that a model's layers do not depend on this setting.
        return ops.multiply(stack, 1.0)
    if normalization == "radiograph":
        return _standardised(stack, [RADIOGRAPH_MEAN] * planes, [RADIOGRAPH_STD] * planes)
    if normalization in ("imagenet", "caffe") and planes != 3:
        raise InputError(f"normalization: {normalization} needs 3 channels, the stack has {planes}; use unit")
    if normalization == "imagenet":
        return _standardised(stack, IMAGENET_MEAN, IMAGENET_STD)
    if normalization == "caffe":
        return ops.subtract(ops.flip(stack, axis=-1), np.asarray(CAFFE_MEAN, "float32"))
    hint = "; training is found by train, which knows the training images" if normalization == TRAINING else ""
    raise InputError(f"normalization: {normalization!r} given, one of {', '.join(NORMALIZATIONS)} expected{hint}")


def scale_ahead(stack, normalization: Normalization):
    """Undo, ahead of a network whose first layers scale by ImageNet's statistics, what those do to `scale`'s result."""
    if normalization == "none":  # its layers alone scale
        return scale(stack, normalization)
    mean, deviation = (np.asarray(values, "float32") for values in (IMAGENET_MEAN, IMAGENET_STD))
    return ops.multiply(ops.add(ops.multiply(scale(stack, normalization), deviation), mean), 255.0)


def check_normalization(chosen: Any, planes: int) -> None:
    """`InputError` for a recipe's value that is neither a known name, "training" included, nor statistics."""
    if isinstance(chosen, Mapping):
        check_statistics(chosen, planes)
    elif chosen not in (*NORMALIZATIONS, TRAINING):
        names = ", ".join((*NORMALIZATIONS, TRAINING))
        raise InputError(
            f"options.normalization: {chosen!r} given, one of {names} or {{mean: [...], std: [...]}} expected"
        )


def check_statistics(values: Any, planes: int) -> dict[str, list[float]]:
    """Plain ``{"mean": [...], "std": [...]}`` of x/255, one number each plane and deviations above 0."""
    expected = "{mean: [...], std: [...]} of x/255, one number above 0 for each channel, expected"
    try:
        statistics = {key: [float(value) for value in values[key]] for key in ("mean", "std")}
    except (TypeError, ValueError, KeyError):
        statistics = {}
    if not statistics or set(values) != set(statistics):
        raise InputError(f"normalization: {values!r} given, {expected}")
    for key, numbers in statistics.items():
        if len(numbers) != planes:
            raise InputError(f"normalization.{key}: {len(numbers)} numbers given for {planes} channels; {expected}")
        if not all(np.isfinite(n) and n >= 0 for n in numbers) or (key == "std" and min(numbers) <= 0):
            raise InputError(f"normalization.{key}: {numbers} given, {expected}")
    return statistics


def _standardised(stack, mean, std):
    shift, deviation = (np.asarray(values, "float32") for values in (mean, std))
    return ops.divide(ops.subtract(ops.divide(stack, 255.0), shift), deviation)
