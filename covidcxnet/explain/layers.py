"""Layers that a map can be drawn of: where a model can be cut for Grad-CAM, and its convolutions."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from enhancement.errors import InputError
from segmentation.backend import keras, layers

_LISTED = 12  # layers that a message names


def cut_layers(model: keras.Model) -> list[str]:
    """Names of the layers where Grad-CAM can cut a model, from input to output.

    Their output is a feature map ``[N, h, w, F]``, and all that comes after depends on nothing else: inside a residual
    or dense block there is no such place.
    """
    operations = list(model.operations)
    names_of_layers = {layer.name for layer in model.layers if not isinstance(layer, layers.InputLayer)}
    makers = {id(tensor): k for k, operation in enumerate(operations) for tensor in _tensors(operation, "output")}
    last_use: dict[int, int] = {}
    for position, operation in enumerate(operations):
        for tensor in _tensors(operation, "input"):
            maker = makers.get(id(tensor), position)
            if maker != position:
                last_use[maker] = position
    names, open_until = [], -1
    for position, operation in enumerate(operations):
        is_map = len(getattr(operation.output, "shape", ())) == 4
        # What was made before this layer must not be needed after it.
        if open_until <= position and is_map and operation.name in names_of_layers:
            names.append(operation.name)
        open_until = max(open_until, last_use.get(position, -1))
    return names


def require_cut(model: keras.Model, name: str, key: str = "layer") -> str:
    """`name`, if Grad-CAM can cut the model there; an `InputError` names those that resemble it and the last ones."""
    names = cut_layers(model)
    if name in names:
        return name
    close = difflib.get_close_matches(name, names, n=4)
    listed = ", ".join(dict.fromkeys([*close, *names[-_LISTED:]])) or "none"
    before = f" (and {len(names) - _LISTED} before them)" if len(names) > _LISTED else ""
    why = f"is no layer of {model.name}"
    if any(layer.name == name for layer in model.layers):
        why = f"is no place to cut {model.name}: it gives no feature map, or what follows needs more than it"
    raise InputError(f"{key}: {name!r} {why}; layers to choose from: {listed}{before}")


def convolutions(model: keras.Model) -> list[str]:
    """Names of the convolutional layers of a model, from input to output; an `InputError` if there is none."""
    kinds = (layers.Conv2D, layers.DepthwiseConv2D, layers.SeparableConv2D)
    names = [layer.name for layer in model.layers if isinstance(layer, kinds)]
    if not names:
        raise InputError(f"model {model.name}: no convolutional layer, so there are no feature maps to draw")
    return names


def chosen_layers(model: keras.Model, wanted: Sequence[str], key: str = "layers") -> list[str]:
    """Names of layers that `wanted` means, from input to output: names, ``first:9`` and ``last:3`` of all with maps.

    `InputError` for anything else; the message names layers that resemble it.
    """
    names = [layer.name for layer in model.layers if not isinstance(layer, layers.InputLayer)]
    names = [name for name in names if len(getattr(model.get_layer(name).output, "shape", ())) == 4]
    chosen: set[str] = set()
    for word in wanted:
        end, _, number = word.partition(":")
        if end in ("first", "last") and number.isdecimal() and int(number) > 0:
            chosen.update(names[: int(number)] if end == "first" else names[-int(number) :])
        elif word in names:
            chosen.add(word)
        else:
            close = ", ".join(difflib.get_close_matches(word, names, n=4) or names[:_LISTED])
            why = f"no layer of {model.name} with feature maps, such as {close}"
            raise InputError(f"{key}: {word!r} is {why}; first:N and last:N count them")
    return [name for name in names if name in chosen]


def _tensors(operation, side: str) -> list:
    tensors = getattr(operation, side)
    return list(tensors) if isinstance(tensors, list | tuple) else [tensors]
