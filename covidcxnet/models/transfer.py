"""Weights from one built model to another of the same family: the backbone whole, the head as far as it fits."""

from __future__ import annotations

from collections.abc import Collection

from enhancement.errors import InputError
from segmentation.backend import keras

from .heads import OUTPUT, head_layers, networks
from .registry import MODELS


def transfer(source: keras.Model, model: keras.Model, origin: object, skip: Collection[str] = ()) -> list[str]:
    """Copy weights layer by layer, by name, into a model of the same family; nothing is set unless the backbone fits.

    `origin` says in messages where the source comes from; layers in `skip` are left as they are. The names of the
    layers that were set are returned: the backbone, and those of the head whose shapes are the same.
    """
    # A COVID-CXNet fits both levels of a hierarchical one: each begins as a copy of it, but for its output.
    both = model.name in MODELS and source.name == MODELS[model.name].level
    if source.name != model.name and not both:
        raise InputError(f"init: {origin} holds a {source.name}, the recipe's model is {model.name}")
    prefixes = networks(model) if both else ("",)
    skip = {*skip, *(prefix + OUTPUT for prefix in prefixes)} if both else skip
    head = head_layers(model)
    others = {prefix + layer.name: layer for layer in source.layers if layer.weights for prefix in prefixes}
    loaded = {}  # set at the end: a model that is half loaded would look trained
    for layer in model.layers:
        if not layer.weights or layer.name in skip:
            continue
        other = others.get(layer.name)
        expected = [tuple(w.shape) for w in layer.weights]
        if other is not None and [tuple(w.shape) for w in other.weights] == expected:
            loaded[layer.name] = other.get_weights()
        elif layer.name not in head:
            shapes = [tuple(w.shape) for w in other.weights] if other else "no such layer"
            raise InputError(f"init: {origin}: {layer.name} has {shapes}, the recipe's model needs {expected}")
    for name, arrays in loaded.items():
        model.get_layer(name).set_weights(arrays)
    return list(loaded)
