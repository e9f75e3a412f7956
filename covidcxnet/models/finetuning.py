"""How deep a model is trained: all of it, its head, the last fraction of its backbone, or blocks by name.

A batch norm that is not trained keeps to its moving averages, in training too: Keras runs a frozen one as in
inference.
"""

from __future__ import annotations

import re

from enhancement.errors import InputError
from segmentation.backend import keras

from .heads import head_names, networks

EXPECTED = 'all, head, a fraction of the layers above 0 and below 1 as in "0.25", or names as in "conv4,conv5"'


def check_depth(depth: str) -> None:
    """Refuse what can be no depth of any model, before one is built."""
    fraction = _fraction(depth)
    names = [name.strip() for name in depth.split(",")]
    ok = 0 < fraction < 1 if fraction is not None else all(re.fullmatch(r"[A-Za-z][\w.-]*", name) for name in names)
    if not ok:
        raise InputError(f"trainable: {depth!r} given, {EXPECTED} expected")


def freeze(model: keras.Model, depth: str) -> list[str]:
    """Leave only a part of a model trainable; call it before the model is compiled.

    Parameters
    ----------
    model : keras.Model
        From `create`.
    depth : str
        "all"; "head", what stands behind the pooling layer; a fraction such as "0.25", the head and the last quarter of
        the backbone's layers with weights, rounded; or names with commas between, the head and the layers whose names
        begin so. A name ends where a number would go on: "block1" is not "block14".

    Returns
    -------
    list of str
        Names of the layers with weights that train.

    Raises
    ------
    InputError
        If the depth is none, is less than one layer, or a name is no layer's; nothing is frozen then.
    """
    check_depth(depth)
    weighted = [layer.name for layer in model.layers if layer.weights]
    trained: set[str] = set()
    for prefix in networks(model):
        names = [layer.name[len(prefix) :] for layer in model.layers if layer.name.startswith(prefix)]
        with_weights = [name for name in names if prefix + name in weighted]
        trained |= {prefix + name for name in _trained(model.name, with_weights, head_names(names), depth)}
    for layer in model.layers:
        if layer.weights:
            layer.trainable = layer.name in trained
    return [name for name in weighted if name in trained]


def _trained(model: str, names: list[str], head: set[str], depth: str) -> set[str]:
    """Of one network's layers with weights, in order, those that train at this depth."""
    if depth == "all":
        return set(names)
    backbone = [name for name in names if name not in head]
    if depth == "head":
        return head
    fraction = _fraction(depth)
    if fraction is not None:
        count = round(fraction * len(backbone))
        if count == 0:
            raise InputError(f"trainable: {depth} of the {len(backbone)} layers of {model} is none; use head, or more")
        return head | set(backbone[-count:])
    trained = set(head)
    for name in (part.strip() for part in depth.split(",")):
        # Up to where a number would go on: block1 is not block14.
        block = re.compile(re.escape(name) + r"(?!\d)")
        layers = {layer for layer in backbone if block.match(layer)}
        if not layers:
            raise InputError(f"trainable: no layer of {model} begins with {name!r}; there are {_blocks(backbone)}")
        trained |= layers
    return trained


def _fraction(depth: str) -> float | None:
    try:
        return float(depth)
    except ValueError:
        return None


def _blocks(backbone: list[str]) -> str:
    """First parts of the layers' names, in order: `conv1`, `conv2_block1` and so on."""
    firsts = list(dict.fromkeys(re.match(r"[A-Za-z]*(?:\d+[a-z]?)?(?:_block\d+)?", name)[0] for name in backbone))  # type: ignore[index]
    shown = firsts if len(firsts) <= 24 else [*firsts[:12], "...", *firsts[-12:]]
    return ", ".join(shown)
