"""Weights files of Keras 1 and 2 (HDF5, layers by name): read as plain arrays, loaded by position, every shape checked.

Loading by name would skip ``conv1/conv``, which is called ``conv1_conv`` today, and silently leave the stem random.
Nothing that a file holds is executed: numbers are read, and of a whole model's description a few plain values.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from enhancement.errors import InputError

from .hdf5 import open_plain, shapes

if TYPE_CHECKING:
    import h5py
    import keras

# Names of arrays within a layer, in the order in which Keras keeps them; some files list them otherwise.
_ORDERS = (("kernel", "bias"), ("gamma", "beta", "moving_mean", "moving_variance"))


@dataclass(frozen=True, eq=False)
class LegacyLayer:
    """One weighted layer: its name in the file and its arrays in Keras' order."""

    name: str
    arrays: tuple[np.ndarray, ...]

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        return [array.shape for array in self.arrays]


def legacy_layers(file: h5py.File, path: str | Path) -> list[LegacyLayer] | None:
    """Layers with weights of a file from `open_plain`, in its order; None where its layout is not that of Keras 1 or 2.

    `InputError` if it is damaged or hostile.
    """
    # Keras 1 and 2 cut attributes of more than 64 KiB into numbered parts.
    group = _group(file)
    if "layer_names" not in group.attrs and "layer_names0" not in group.attrs:
        return None
    names = _names(group, "layer_names")
    if not names:
        raise InputError(f"{path}: no layer names in it; not a weights file of Keras 1 or 2")
    layers = []
    # A file of a few bytes may name one array a million times.
    left = sum(math.prod(shape) for shape in shapes(group))
    for name in names:
        if name not in group:
            raise InputError(f"{path}: the layer {name} is named but missing; the file is damaged")
        weights = _names(group[name], "weight_names")
        arrays = []
        for weight in _in_order(weights):
            arrays.append(_array(group[name], weight, path))
            left -= arrays[-1].size
            if left < 0:
                raise InputError(f"{path}: names arrays more than once, at {name}; damaged or hostile")
        if arrays:
            layers.append(LegacyLayer(name, tuple(arrays)))
    return layers


def read_config(path: str | Path) -> dict[str, Any]:
    """What a whole-model file says of its layers: ``{name: config}`` in order; empty where it says nothing.

    Only read as values, to check against: no class that it names is looked up.
    """
    with open_plain(path) as file:
        text = file.attrs.get("model_config")
        try:
            layers = json.loads(text)["config"]
            layers = layers["layers"] if isinstance(layers, dict) else layers
            return {layer["config"]["name"]: {**layer["config"], "class": layer["class_name"]} for layer in layers}
        except (TypeError, ValueError, KeyError, RecursionError):
            return {}


def set_by_position(model: keras.Model, layers: Sequence[LegacyLayer], path: str | Path) -> None:
    """Set all weights of a flat functional model from legacy layers in order; nothing is set unless all of it fits.

    `InputError` names the first layer that does not, by its shapes.
    """
    weighted = [layer for layer in model.layers if layer.weights]
    if len(layers) != len(weighted):
        raise InputError(
            f"{path}: {len(layers)} layers with weights found, {model.name} has {len(weighted)}; "
            "the file is of another architecture"
        )
    for layer, legacy in zip(weighted, layers, strict=True):
        expected = [tuple(w.shape) for w in layer.weights]
        if legacy.shapes != expected:
            raise InputError(f"{path}: layer {legacy.name} has shapes {legacy.shapes}, {layer.name} needs {expected}")
    # A loop of its own: a model that is half loaded would look trained.
    for layer, legacy in zip(weighted, layers, strict=True):
        layer.set_weights(legacy.arrays)


def _group(file: h5py.File) -> h5py.Group:
    return file.get("model_weights", file)


def _names(group: h5py.Group, attribute: str) -> list[str]:
    """A list of names; Keras cut long ones into name0, name1, ..."""
    if attribute in group.attrs:
        parts = [group.attrs[attribute]]
    else:
        parts = []
        while f"{attribute}{len(parts)}" in group.attrs:
            parts.append(group.attrs[f"{attribute}{len(parts)}"])
    return [n.decode() if isinstance(n, bytes) else str(n) for part in parts for n in part]


def _in_order(names: list[str]) -> list[str]:
    # "conv1/kernel:0": the layer before, TensorFlow's number of the output behind.
    short = {name.rsplit("/", 1)[-1].split(":")[0]: name for name in names}
    for order in _ORDERS:
        if len(short) == len(names) and set(short) <= set(order):
            return [short[name] for name in order if name in short]
    return names


def _array(group: h5py.Group, name: str, path: str | Path) -> np.ndarray:
    item = group.get(name)
    if item is None or not hasattr(item, "dtype") or item.dtype.kind != "f":
        raise InputError(f"{path}: {name} is missing or not a plain array of numbers; the file is damaged")
    if not item.size:
        raise InputError(f"{path}: {name} of shape {item.shape} holds nothing; the file is damaged")
    # One array of float64 or float16 is taken too: Keras computes in float32 whatever is stored.
    array = np.asarray(item[()], "float32")
    if not np.isfinite(array).all():
        raise InputError(f"{path}: {name} holds values that are not finite; the file is damaged")
    return array
