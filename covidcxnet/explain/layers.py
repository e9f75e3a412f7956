"""Layers that a map can be drawn of: where a model can be cut for Grad-CAM, and its convolutions."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from enhancement.errors import InputError

if TYPE_CHECKING:
    import keras

_NAMED = 12


def cut_layers(model: keras.Model) -> list[str]:
    """Names of the layers where Grad-CAM can cut a model, from input to output.

    Their output is a feature map ``[N, h, w, F]``, and all that comes after depends on nothing else: inside a residual
    or dense block there is no such place.
    """
    from keras import layers

    operations = list(model.operations)
    own = {layer.name for layer in model.layers if not isinstance(layer, layers.InputLayer)}
    last_use = _last_use(operations)
    names, open_until = [], -1
    for position, operation in enumerate(operations):
        # What was made before this layer must not be needed after it.
        if open_until <= position and _is_map(operation) and operation.name in own:
            names.append(operation.name)
        open_until = max(open_until, last_use.get(position, -1))
    return names


def require_cut(model: keras.Model, name: str, key: str = "layer") -> str:
    """`name`, if Grad-CAM can cut the model there.

    Raises
    ------
    InputError
        Otherwise; the message names the layers that resemble it and the last ones that there are.
    """
    names = cut_layers(model)
    if name in names:
        return name
    close = difflib.get_close_matches(name, names, n=4)
    listed = ", ".join(dict.fromkeys([*close, *names[-_NAMED:]])) or "none"
    before = f" (and {len(names) - _NAMED} before them)" if len(names) > _NAMED else ""
    known = any(layer.name == name for layer in model.layers)
    why = f"is no layer of {model.name}"
    if known:
        why = f"is no place to cut {model.name}: it gives no feature map, or what follows needs more than it"
    raise InputError(f"{key}: {name!r} {why}; layers to choose from: {listed}{before}")


def convolutions(model: keras.Model) -> list[str]:
    """Names of the convolutional layers of a model, from input to output.

    Raises
    ------
    InputError
        If there is none.
    """
    import keras

    kinds = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.SeparableConv2D)
    names = [layer.name for layer in model.layers if isinstance(layer, kinds)]
    if not names:
        raise InputError(f"model {model.name}: no convolutional layer, so there are no feature maps to draw")
    return names


def _is_map(operation) -> bool:
    return len(getattr(operation.output, "shape", ())) == 4


def _last_use(operations) -> dict[int, int]:
    """Position of each operation to the last position that reads its output."""
    made = {id(tensor): position for position, one in enumerate(operations) for tensor in _tensors(one, "output")}
    last: dict[int, int] = {}
    for position, operation in enumerate(operations):
        for tensor in _tensors(operation, "input"):
            if (maker := made.get(id(tensor))) is not None and maker != position:
                last[maker] = max(last.get(maker, -1), position)
    return last


def _tensors(operation, side: str) -> list:
    found = getattr(operation, side)
    return list(found) if isinstance(found, list | tuple) else [found]
