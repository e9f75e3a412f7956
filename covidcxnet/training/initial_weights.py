"""`--init`: random weights, ImageNet, CheXNet, or a file; and a line that says what was loaded and what was not."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from covidcxnet import pretrained
from covidcxnet.legacy import is_legacy, load_by_position, read_legacy
from covidcxnet.models.densenet import DENSENET121
from covidcxnet.models.heads import OUTPUT, head_layers
from enhancement.errors import InputError

if TYPE_CHECKING:
    import keras

NORMALIZATIONS = {"imagenet": "imagenet"}
"""Scaling that an `init` brings with it, unless the recipe's options name one."""


def initialise(model: keras.Model, init: str, classes: tuple[str, ...]) -> str:
    """Load initial weights into a new model.

    Parameters
    ----------
    model : keras.Model
        From `models.create`.
    init : str
        "random", "imagenet", "chexnet", a weights file of this project or of Keras 2, a run folder or a released name.
    classes : tuple of str
        Labels of the model; the output layer is taken over only from weights with the same ones.

    Returns
    -------
    str
        What was loaded, for people.

    Raises
    ------
    InputError
        If the weights cannot be had or do not fit; the model is then not to be used.
    """
    if init == "random":
        return "random initial weights"
    if init == "imagenet":
        return _imagenet(model)
    path = pretrained.chexnet() if init == "chexnet" else pretrained.resolve(init)
    if is_legacy(path):
        layers = read_legacy(path)
        return _said(model, path, load_by_position(model, layers, path, head_layers(model)))
    return _ours(model, path, classes)


def _ours(model: keras.Model, path: Path, classes: tuple[str, ...]) -> str:
    metadata = pretrained.classifier_metadata(path)
    source = pretrained.build(metadata, path)
    if source.name != model.name:
        raise InputError(f"init: {path} holds a {source.name}, the recipe's model is {model.name}")
    head = head_layers(model)
    others = {layer.name: layer for layer in source.layers if layer.weights}
    loaded = {}
    for layer in model.layers:
        if not layer.weights:
            continue
        other = others.get(layer.name)
        expected = [tuple(w.shape) for w in layer.weights]
        if layer.name == OUTPUT and tuple(metadata["classes"]) != tuple(classes):
            continue  # its units mean other labels
        if other is not None and [tuple(w.shape) for w in other.weights] == expected:
            loaded[layer.name] = other.get_weights()
        elif layer.name not in head:
            found = [tuple(w.shape) for w in other.weights] if other else "no such layer"
            raise InputError(f"init: {path}: {layer.name} has {found}, the recipe's model needs {expected}")
    for name, arrays in loaded.items():
        model.get_layer(name).set_weights(arrays)
    return _said(model, path, list(loaded))


def _imagenet(model: keras.Model) -> str:
    import keras

    full = sum(layer.name.endswith("_concat") for layer in model.layers) == sum(DENSENET121)
    if model.name != "covid-cxnet" or model.input_shape[-1] != 3 or not full:
        raise InputError("init: ImageNet weights exist for covid-cxnet as published, 3 channels; use random, or a file")
    try:
        source = keras.applications.DenseNet121(include_top=False, weights="imagenet", input_shape=(32, 32, 3))
    except Exception as error:  # Keras raises a bare Exception where a download fails
        found = re.search(r"https?://\S+?\.h5", str(error))
        if not found:
            raise
        url = found.group()
        folder = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras")) / "models"
        raise InputError(
            f"init: the ImageNet weights cannot be downloaded; fetch {url} elsewhere and put it at "
            f"{folder / url.rsplit('/', 1)[1]}"
        ) from error
    layers = [layer for layer in source.layers if layer.weights]
    for layer in layers:
        model.get_layer(layer.name).set_weights(layer.get_weights())
    return _said(model, "ImageNet", [layer.name for layer in layers])


def _said(model: keras.Model, origin: str | Path, loaded: list[str]) -> str:
    weighted = [layer.name for layer in model.layers if layer.weights]
    fresh = [name for name in weighted if name not in set(loaded)]
    text = f"initial weights from {origin}: {len(loaded)} of {len(weighted)} layers"
    return text + (f"; random: {', '.join(fresh)}" if fresh else "")
