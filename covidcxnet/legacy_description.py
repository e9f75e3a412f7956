"""What an old file of a whole model says of its layers beside their arrays, as far as it must agree with them."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING, Any

from covidcxnet.legacy_structure import Structure
from enhancement.errors import InputError
from weights.legacy_h5 import LegacyLayer

if TYPE_CHECKING:
    import keras


def described_size(config: dict[str, dict[str, Any]], structure: Structure) -> int | None:
    """Side of the stack that the description gives; None where it gives none."""
    for layer in config.values():
        shape = layer.get("batch_input_shape") or layer.get("batch_shape")
        if isinstance(shape, list) and len(shape) == 4:
            square = shape[1] == shape[2] and isinstance(shape[1], int) and shape[3] == structure.channels
            return shape[1] if square and 8 <= shape[1] <= 4096 else None
    return None


def ends_with_relu(config: dict[str, dict[str, Any]]) -> bool:
    """Whether a ReLU follows the last batch norm of a whole-model file's description."""
    last = False
    for layer in config.values():
        if layer["class"] == "BatchNormalization":
            last = False
        elif layer["class"] in ("Activation", "ReLU"):
            last = layer["class"] == "ReLU" or layer.get("activation") == "relu"
    return last


def one_sigmoid(
    structure: Structure, layers: list[LegacyLayer], config: dict[str, dict[str, Any]], path: str | os.PathLike[str]
) -> tuple[Structure, list[LegacyLayer]]:
    """A head of two outputs as one: the softmax of two scores is the sigmoid of their difference, exactly.

    Raises
    ------
    InputError
        If the file does not say that they are a softmax.
    """
    dense = [layer for layer in config.values() if layer["class"] == "Dense"]
    if not dense or dense[-1].get("activation") != "softmax":
        raise InputError(f"{path}: two outputs in its head, and nothing in the file says that they are a softmax")
    kernel, bias = layers[-1].arrays
    one = LegacyLayer(layers[-1].name, (kernel[:, 1:] - kernel[:, :1], bias[1:] - bias[:1]))
    return dataclasses.replace(structure, outputs=1), [*layers[:-1], one]


def check_described(config: dict[str, dict[str, Any]], model: keras.Model, path: str | os.PathLike[str]) -> None:
    """Refuse a file that describes its layers as other than those its arrays were set in.

    Parameters
    ----------
    config : dict
        From `weights.legacy_h5.read_config`; empty, or of another number of layers, it says nothing.
    model : keras.Model
    path : path-like
        For messages.

    Raises
    ------
    InputError
        The message names the layer, what the file says, and what is known here.
    """
    import keras

    kinds = {
        "Conv2D": (keras.layers.Conv2D, ("activation", "strides", "dilation_rate")),
        "BatchNormalization": (keras.layers.BatchNormalization, ("epsilon",)),
    }
    for kind, (ours, keys) in kinds.items():
        stated = [layer for layer in config.values() if layer["class"] == kind]
        built = [layer for layer in model.layers if type(layer) is ours]
        if len(stated) != len(built):
            continue
        for said, layer in zip(stated, built, strict=True):
            known = layer.get_config()
            for key in keys:
                if key in said and not _same(said[key], known[key]):
                    wrong = f"its layer {said['name']} has {key} {said[key]!r:.80}"
                    raise InputError(f"{path}: {wrong}; only {known[key]!r} is known here")
    dense = [layer for layer in config.values() if layer["class"] == "Dense"]
    for number, layer in enumerate(dense, start=1):
        known = ("sigmoid", "softmax") if number == len(dense) else ("relu",)
        if (found := layer.get("activation")) not in known:
            wrong = f"its layer {layer['name']} has activation {found!r}"
            raise InputError(f"{path}: {wrong}; only {' or '.join(known)} is known here")


def _same(said: Any, known: Any) -> bool:
    if isinstance(known, float):
        return isinstance(said, int | float) and -1e6 < said < 1e6 and abs(said - known) < 1e-8
    return list(said) == list(known) if isinstance(known, list | tuple) and isinstance(said, list) else said == known
