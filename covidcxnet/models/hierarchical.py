"""Hierarchical COVID-CXNet: one network tells normal from pneumonia, a second COVID-19 from other pneumonia (CAP).

The published code trains these two steps one after the other. Here they are two whole COVID-CXNets rather than one
trunk with two heads: what the second learns cannot spoil the first, and its loss can be kept to the images that it is
about. Both are levels of one flat model with three probabilities, ``P(normal) = 1 - a``, ``P(CAP) = a (1 - b)`` and
``P(COVID-19) = a b``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from enhancement.errors import InputError
from segmentation.backend import keras, layers, ops

from .densenet import DENSENET121, EPSILON, PUBLISHED, densenet
from .heads import LEVELS, OUTPUT, add_head, check_head
from .registry import Stage, register

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
    """Head of both levels: COVID-CXNet's on its half of the feature map ``[N, h, w, 2 F]`` each, with its options.

    Gives the three probabilities, float32 ``[N, 3]``.
    """
    if outputs != len(CLASSES):
        raise InputError(f"model {NAME}: three classes expected, normal and two kinds of pneumonia")
    check_head(pool, hidden, dropout)
    if pool == "average+max":
        raise InputError(f"options.pool: {NAME} takes average, max or flatten")
    half = features.shape[-1] // 2
    first, second = (
        add_head(part, 1, pool=pool, hidden=hidden, dropout=dropout, activation="linear", prefix=prefix)
        for part, prefix in zip((features[..., :half], features[..., half:]), LEVELS, strict=True)
    )
    normal = ops.negative(ops.softplus(first))
    pneumonia = ops.negative(ops.softplus(ops.negative(first)))
    cap, covid = (ops.subtract(pneumonia, ops.softplus(logit)) for logit in (second, ops.negative(second)))
    # These are log-probabilities of a distribution already, so that the softmax changes nothing. It gives losses and
    # Grad-CAM scores whose gradients do not vanish where a level is sure.
    return layers.Activation("softmax", name=OUTPUT, dtype="float32")(ops.concatenate([normal, cap, covid], axis=-1))


def check_levels(classes: Sequence[str]) -> None:
    """`InputError` if labels are no hierarchy: normal first, then two kinds of pneumonia."""
    if len(classes) != 3 or classes[0].lower() != "normal":
        raise InputError(
            f"classes: {','.join(classes)!r} given, {NAME}: normal and two kinds of pneumonia, as in "
            f"{','.join(CLASSES)}, expected"
        )


def level_model(model: keras.Model, level: int) -> keras.Model:
    """Level 1 or 2 alone, stack to a or b, ``float32 [N, 1]``; it shares its layers with the whole model."""
    backbone, head = level_split(model, level)
    return keras.Model(model.input, head(backbone.output), name=backbone.name)


def level_split(model: keras.Model, level: int) -> tuple[keras.Model, keras.Model]:
    """A level cut behind its pooling layer: stack to pooled features ``[N, F]``, and those to ``[N, 1]``."""
    prefix = LEVELS[level - 1]
    names = ("pooling_layer", "flatten", "dropout_fc", "fc", "dropout", OUTPUT)
    in_level = [layer for layer in model.layers if layer.name.startswith(prefix)]
    pooling, *dense = [layer for layer in in_level if layer.name[len(prefix) :].rstrip("0123456789") in names]
    pooled = pooling(model.get_layer(FEATURES).input[level - 1])
    backbone = keras.Model(model.input, pooled, name=f"{model.name}-level{level}")
    x = features = keras.Input(pooled.shape[1:], name="features")
    for layer in dense:
        x = layer(x)
    return backbone, keras.Model(features, ops.sigmoid(x), name=f"{backbone.name}-head")


# The first level sees every image, the second only pneumonia. In the published code normal images stay in the second
# training, among the other pneumonias, and its second network has to tell them apart once more.
STAGES = tuple(
    Stage(negative, positive, partial(level_model, level=level), partial(level_split, level=level))
    for level, (negative, positive) in enumerate((((0,), (1, 2)), ((1,), (2,))), start=1)
)


@register(
    NAME,
    size=320,
    channels=3,
    region="crop",
    normalization="unit",
    feature_layer=FEATURES,
    head={"pool": "average", "hidden": (10,), "dropout": 0.2},
    add_head=add_levels,
    classes=CLASSES,
    check_classes=check_levels,
    level="covid-cxnet",
    stages=STAGES,
    summary="two COVID-CXNets: normal or pneumonia, then which pneumonia; 14,095,530 parameters; three classes",
    parameters=14_095_530,
    layers=(863, 244),
    flops=23_127_695_400,
    origin="ImageNet, through keras.applications; CheXNet, see covidcxnet weights list",
    **PUBLISHED,
)
def hierarchical(
    stack,
    blocks: Sequence[int] = DENSENET121,
    growth: int = 32,
    final_relu: bool = True,
    momentum: float = 0.99,
    epsilon: float = EPSILON,
):
    """Feature maps of two DenseNets side by side ``[N, S/32, S/32, 2 F]``; options as in `densenet.densenet`."""
    maps = []
    for prefix in LEVELS:
        level = keras.Input(stack.shape[1:])
        trunk = keras.Model(level, densenet(level, blocks, growth, final_relu, momentum, epsilon))
        maps.append(_renamed(trunk, stack, prefix))
    return keras.layers.Concatenate(name=FEATURES)(maps)


def _renamed(trunk: keras.Model, stack, prefix: str):
    """Output of a copy of `trunk` on `stack`, its layers under names of their own in the same flat graph."""
    tensors = {id(trunk.inputs[0]): stack}
    for layer in trunk.layers[1:]:
        copy = type(layer).from_config(layer.get_config() | {"name": prefix + layer.name})
        inputs = layer.input
        tensors[id(layer.output)] = copy(
            [tensors[id(t)] for t in inputs] if isinstance(inputs, list) else tensors[id(inputs)]
        )
    return tensors[id(trunk.outputs[0])]
