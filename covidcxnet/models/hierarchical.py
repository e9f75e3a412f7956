"""Hierarchical COVID-CXNet: one network tells normal from pneumonia, a second COVID-19 from other pneumonia (CAP).

The published code trains these two steps one after the other. Here they are two whole COVID-CXNets rather than one
trunk with two heads: what the second learns cannot spoil the first, and its loss can be kept to the images that it is
about. Both are levels of one flat model with three probabilities, ``P(normal) = 1 - a``, ``P(CAP) = a (1 - b)`` and
``P(COVID-19) = a b``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from enhancement.errors import InputError

from .densenet import DENSENET121, densenet
from .heads import LEVELS, OUTPUT, add_head, check_head
from .registry import register

if TYPE_CHECKING:
    import keras

NAME = "covid-cxnet-hierarchical"
FEATURES = "features"
CLASSES = ("normal", "pneumonia", "covid19")


def add_levels(
    features,
    outputs: int,
    *,
    pool: str = "average",
    hidden: Sequence[int] = (10,),
    dropout: float | Sequence[float] = 0.2,
):
    """Head of both levels: COVID-CXNet's on its half of the feature map each, and the three probabilities.

    Parameters
    ----------
    features : Keras tensor [N, h, w, 2 F]
        Maps of the first level before those of the second.
    outputs : int
        3; nothing else is a hierarchy of two levels.
    pool, hidden, dropout
        As in `heads.add_head`, of each level.

    Returns
    -------
    Keras tensor [N, 3], float32

    Notes
    -----
    The last layer is a softmax of the three log-probabilities. As these belong to a distribution already it changes
    nothing, but gives losses and Grad-CAM scores whose gradients do not vanish where a level is sure.
    """
    from keras import layers, ops

    if outputs != len(CLASSES):
        raise InputError(f"model {NAME}: three classes expected, normal and two kinds of pneumonia")
    check_head(pool, hidden, dropout)
    half = features.shape[-1] // 2
    parts = (features[..., :half], features[..., half:])
    sick, second = (
        add_head(part, 1, pool=pool, hidden=hidden, dropout=dropout, activation="linear", prefix=prefix)
        for part, prefix in zip(parts, LEVELS, strict=True)
    )
    well = ops.negative(ops.softplus(sick))
    ill = ops.negative(ops.softplus(ops.negative(sick)))
    one, two = (ops.subtract(ill, ops.softplus(logit)) for logit in (second, ops.negative(second)))
    return layers.Activation("softmax", name=OUTPUT, dtype="float32")(ops.concatenate([well, one, two], axis=-1))


@register(
    NAME,
    size=320,
    channels=3,
    normalization="unit",
    feature_layer=FEATURES,
    head={"pool": "average", "hidden": (10,), "dropout": 0.2},
    add_head=add_levels,
    classes=CLASSES,
    summary="two COVID-CXNets: normal or pneumonia, then which pneumonia; 14,095,530 parameters; three classes",
    parameters=14_095_530,
    flops=23_127_695_400,
    application="DenseNet121",
    origin="ImageNet, through keras.applications; CheXNet, see covidcxnet weights list",
    licence="BSD 3-clause; trained on ImageNet, for non-commercial research; CheXNet: MIT",
)
def hierarchical(
    stack, blocks: Sequence[int] = DENSENET121, growth: int = 32, final_relu: bool = True, momentum: float = 0.99
):
    """Feature maps of two DenseNets side by side ``[N, S/32, S/32, 2 F]``; options as in `densenet.densenet`."""
    import keras

    maps = []
    for prefix in LEVELS:
        own = keras.Input(stack.shape[1:])
        trunk = keras.Model(own, densenet(own, blocks, growth, final_relu, momentum))
        maps.append(_renamed(trunk, stack, prefix))
    return keras.layers.Concatenate(name=FEATURES)(maps)


def level_model(model: keras.Model, level: int, outputs: str = "probability") -> keras.Model:
    """One level alone, stack to ``float32 [N, 1]``; it shares its layers with the whole model, and runs half of it.

    Parameters
    ----------
    model : keras.Model
        A hierarchical model of the registry.
    level : {1, 2}
        1 gives a, the probability of any pneumonia; 2 gives b, that of the third class among the pneumonias.
    outputs : {"probability", "pooled"}
        What the model ends in; "pooled" is the feature vector ``[N, F]`` before the head.
    """
    import keras
    from keras import ops

    head = level_head(model, level)
    x = model.get_layer(FEATURES).input[level - 1]
    x = head[0](x)
    if outputs == "probability":
        for layer in head[1:]:
            x = layer(x)
        x = ops.sigmoid(x)
    return keras.Model(model.input, x, name=f"{model.name}-level{level}")


def level_head(model: keras.Model, level: int) -> list[keras.layers.Layer]:
    """Layers of a level's head in order, its pooling first."""
    prefix = LEVELS[level - 1]
    names = ("pooling_layer", "flatten", "dropout_fc", "fc", "dropout", OUTPUT)
    own = [layer for layer in model.layers if layer.name.startswith(prefix)]
    return [layer for layer in own if layer.name[len(prefix) :].rstrip("0123456789") in names]


def _renamed(trunk: keras.Model, stack, prefix: str):
    """Output of a copy of `trunk` on `stack`, its layers under names of their own in the same flat graph."""
    made = {id(trunk.inputs[0]): stack}
    for layer in trunk.layers[1:]:
        copy = type(layer).from_config(layer.get_config() | {"name": prefix + layer.name})
        given = layer.input
        read = [made[id(t)] for t in given] if isinstance(given, list) else made[id(given)]
        made[id(layer.output)] = copy(read)
    return made[id(trunk.outputs[0])]
