"""A built model taken apart: its backbone and its head, what of them trains, and weights from another model.

A batch norm that is not trained keeps to its moving averages, in training too: Keras runs a frozen one as in
inference.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from enhancement.errors import InputError
from segmentation.backend import keras

from .heads import LEVELS, OUTPUT, POOLS
from .registry import MODELS

EXPECTED = 'all, head, a fraction of the layers above 0 and below 1 as in "0.25", or names as in "conv4,conv5"'


def check_depth(depth: str) -> None:
    """Refuse what can be no depth of any model, before one is built."""
    fraction = _fraction(depth)
    names = [name.strip() for name in depth.split(",")]
    ok = 0 < fraction < 1 if fraction is not None else all(re.fullmatch(r"[A-Za-z][\w.-]*", name) for name in names)
    if not ok:
        raise InputError(f"trainable: {depth!r} given, {EXPECTED} expected")


def freeze(model: keras.Model, depth: str, frozen_norms: bool = False) -> list[str]:
    """Leave only a part of a model trainable; call it before the model is compiled.

    Parameters
    ----------
    model : keras.Model
        From `create`.
    depth : str
        "all"; "head", what stands behind the pooling layer; a fraction such as "0.25", the head and the last quarter of
        the backbone's layers with weights, rounded; or names with commas between, the head and the layers whose names
        begin so. A name ends where a number would go on: "block1" is not "block14".
    frozen_norms : bool
        Whether batch norms stay frozen where the layers around them train.

    Returns
    -------
    list of str
        Names of the layers with weights that train.

    Raises
    ------
    InputError
        If the depth is none, is less than one layer, a name is no layer's, or there are no batch norms to keep frozen;
        nothing is frozen then.
    """
    check_depth(depth)
    weighted = [layer.name for layer in model.layers if layer.weights]
    trained: set[str] = set()
    for prefix in networks(model):
        names = [layer.name[len(prefix) :] for layer in model.layers if layer.name.startswith(prefix)]
        with_weights = [name for name in names if prefix + name in weighted]
        trained |= {prefix + name for name in _trained(model.name, with_weights, head_names(names), depth)}
    if frozen_norms:
        norms = {layer.name for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)}
        if not norms:
            raise InputError(f"frozen_norms: {model.name} has no batch norms; leave it out")
        trained -= norms
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


def networks(model: keras.Model) -> tuple[str, ...]:
    """What the layers of each whole network in a model are called first: nothing where it is one network."""
    return LEVELS if any(layer.name.startswith(LEVELS[0]) for layer in model.layers) else ("",)


def head_layers(model: keras.Model) -> set[str]:
    """Names of the layers behind the pooling layer, of each network in the model."""
    names = [layer.name for layer in model.layers]
    return {p + name for p in networks(model) for name in head_names([n[len(p) :] for n in names if n.startswith(p)])}


def head_names(names: Sequence[str]) -> set[str]:
    """Those of a network's layer names, in order, that stand behind its pooling layer."""
    cut = max((names.index(pool) for pool in POOLS.values() if pool in names), default=len(names))
    return set(names[cut + 1 :])
