"""Weights files of Keras 1 and 2 (HDF5, layers by name): read as plain arrays, loaded by position, every shape checked.

Loading by name would skip ``conv1/conv``, which is called ``conv1_conv`` today, and silently leave the stem random.
Nothing that a file holds is executed: only numbers are read.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from enhancement.errors import InputError

if TYPE_CHECKING:
    import h5py
    import keras

_MOST_BYTES = 4 << 30


@dataclass(frozen=True)
class LegacyLayer:
    """One weighted layer: its name in the file and its arrays in Keras' order."""

    name: str
    arrays: tuple[np.ndarray, ...]


def is_legacy(path: str | Path) -> bool:
    """Whether a file has the layout of Keras 1 or 2, told by content: weights alone or a whole model."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return "layer_names" in _group(file).attrs or "layer_names0" in _group(file).attrs
    except (OSError, KeyError, RuntimeError):
        return False


def read_legacy(path: str | Path) -> list[LegacyLayer]:
    """Layers with weights, in the file's order.

    Raises
    ------
    InputError
        If it is not such a file, is damaged, refers to other files or declares absurd sizes.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return _layers(_group(file), path)
    except InputError:
        raise
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError) as error:
        raise InputError(f"{path}: not a legacy HDF5 weights file, or a damaged one ({error})") from error


def load_by_position(model: keras.Model, layers: list[LegacyLayer], path: str | Path, head: set[str]) -> list[str]:
    """Set a model's weights from legacy layers in order; nothing is set unless the whole backbone fits.

    Parameters
    ----------
    model : keras.Model
        Flat functional model.
    layers : list of LegacyLayer
    path : path-like
        For messages.
    head : set of str
        Names of the model's head layers: they are loaded only if all of them fit, as the heads of others seldom do.

    Returns
    -------
    list of str
        Names of the model's layers that were set.

    Raises
    ------
    InputError
        If the backbone has more layers than the file, or any shape differs.
    """
    weighted = [layer for layer in model.layers if layer.weights]
    backbone = [layer for layer in weighted if layer.name not in head]
    rest = [layer for layer in weighted if layer.name in head]
    if len(layers) < len(backbone):
        raise InputError(
            f"{path}: {len(layers)} layers with weights found, the backbone of {model.name} has {len(backbone)}; "
            "the file is of another architecture"
        )
    for layer, legacy in zip(backbone, layers, strict=False):
        if not _fits(layer, legacy):
            found, expected = [a.shape for a in legacy.arrays], [tuple(w.shape) for w in layer.weights]
            raise InputError(f"{path}: layer {legacy.name} has shapes {found}, {layer.name} needs {expected}")
    remaining = layers[len(backbone) :]
    same = len(remaining) == len(rest) and all(_fits(a, b) for a, b in zip(rest, remaining, strict=True))
    chosen = weighted if same else backbone
    for layer, legacy in zip(chosen, layers, strict=False):
        layer.set_weights(legacy.arrays)
    return [layer.name for layer in chosen]


def _fits(layer: keras.layers.Layer, legacy: LegacyLayer) -> bool:
    return [tuple(w.shape) for w in layer.weights] == [a.shape for a in legacy.arrays]


def _group(file: h5py.File) -> h5py.Group:
    return file.get("model_weights", file)


def _layers(group: h5py.Group, path: str | Path) -> list[LegacyLayer]:
    names = _names(group, "layer_names")
    if not names:
        raise InputError(f"{path}: no layer names in it; not a weights file of Keras 1 or 2")
    layers, total = [], 0
    for name in names:
        arrays = []
        for weight in _names(group[name], "weight_names"):
            data = _dataset(group[name], weight, path)
            total += data.nbytes
            if total > _MOST_BYTES:
                raise InputError(f"{path}: declares more than {_MOST_BYTES >> 30} GiB of weights; damaged or hostile")
            arrays.append(np.asarray(data[()], "float32"))
        if arrays:
            layers.append(LegacyLayer(name, tuple(arrays)))
    return layers


def _names(group: h5py.Group, attribute: str) -> list[str]:
    """A list of names; Keras cut long ones into name0, name1, ..."""
    if attribute in group.attrs:
        parts = [group.attrs[attribute]]
    else:
        parts = []
        while f"{attribute}{len(parts)}" in group.attrs:
            parts.append(group.attrs[f"{attribute}{len(parts)}"])
    return [n.decode() if isinstance(n, bytes) else str(n) for part in parts for n in part]


def _dataset(group: h5py.Group, name: str, path: str | Path) -> h5py.Dataset:
    import h5py

    place = group
    for part in name.split("/"):
        if not isinstance(place.get(part, getlink=True), h5py.HardLink):
            raise InputError(f"{path}: {name} is a link to another file, or missing")
        place = place[part]
    if not isinstance(place, h5py.Dataset) or place.external or place.is_virtual or place.dtype.kind != "f":
        raise InputError(f"{path}: {name} is not a plain array of numbers")
    return place
