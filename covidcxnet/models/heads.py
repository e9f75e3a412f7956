"""Classifier heads: from a feature map to probabilities, and the cut between a built model's backbone and its head."""

from __future__ import annotations

from collections.abc import Sequence

from enhancement.errors import InputError
from segmentation.backend import keras, layers

POOLS = dict.fromkeys(("average", "max", "average+max"), "pooling_layer") | {"flatten": "flatten"}
OUTPUT = "pred"
# What the layers of each level of a hierarchical model are called first; behind it, as in a network of one level.
LEVELS = ("level1_", "level2_")

# Heads by name, for any backbone: COVID-CXNet's (section 4.3), that of the pediatric pneumonia study's pretrained
# networks (section C, global max pooling), and one layer on averaged features.
HEADS = {
    "covid-cxnet": {"pool": "average", "hidden": (10,), "dropout": 0.2},
    "pneumonia": {"pool": "max", "hidden": (128,), "dropout": 0.0},
    "linear": {"pool": "average", "hidden": (), "dropout": 0.0},
}


def add_head(
    features,
    outputs: int,
    *,
    pool: str = "average",
    hidden: Sequence[int] = (10,),
    dropout: float | Sequence[float] = 0.2,
    activation: str | None = None,
    hidden_activation: str = "relu",
    prefix: str = "",
):
    """Pool a feature map ``[N, h, w, F]``, pass it through small dense layers and give probabilities.

    One output is a sigmoid, more are a softmax; `activation` "sigmoid" makes several outputs independent findings, as
    in CheXNet, and "linear" gives scores. `hidden` are the units of the layers before it, ``fc``, or ``fc1``, ``fc2``,
    ... where there are several; `hidden_activation` is theirs, "relu" or "hard_swish" (torchvision's MobileNetV3).
    `dropout` stands before the output layer, or is one rate for each dense layer, the output layer's last; there is no
    layer where it is 0. Names of layers begin with `prefix`, where a model has several heads.
    """
    hidden, rates = check_head(pool, hidden, dropout)
    if activation not in (None, "sigmoid", "linear"):
        raise InputError(f"options.activation: {activation!r} given, sigmoid or nothing expected")
    if hidden_activation not in ("relu", "hard_swish"):
        raise InputError(f"options.hidden_activation: {hidden_activation!r} given, relu or hard_swish expected")
    kinds = {"average": layers.GlobalAveragePooling2D, "max": layers.GlobalMaxPooling2D, "flatten": layers.Flatten}
    if pool in kinds:
        x = kinds[pool](name=prefix + POOLS[pool])(features)
    else:  # what is everywhere and what is somewhere, side by side: a small opacity hardly moves the average
        parts = [kinds[part](name=f"{prefix}pooling_{part}")(features) for part in pool.split("+")]
        x = layers.Concatenate(name=prefix + POOLS[pool])(parts)
    for number, units in enumerate(hidden, start=1):
        if rates[number - 1]:
            x = layers.Dropout(rates[number - 1], name=f"{prefix}dropout_fc{number}")(x)
        name = prefix + ("fc" if len(hidden) == 1 else f"fc{number}")
        x = layers.Dense(units, activation=hidden_activation, name=name)(x)
    if rates[-1]:
        x = layers.Dropout(rates[-1], name=prefix + "dropout")(x)
    activation = activation or ("sigmoid" if outputs == 1 else "softmax")
    # float32 under every precision policy: probabilities near 1 do not fit 16 bits
    return layers.Dense(outputs, activation=activation, name=prefix + OUTPUT, dtype="float32")(x)


def check_head(
    pool: str, hidden: Sequence[int] | int, dropout: float | Sequence[float]
) -> tuple[list[int], list[float]]:
    """Units and dropout rates of a head as lists; `InputError` naming the option that can be none."""
    if pool not in POOLS:
        raise InputError(f"options.pool: {pool!r} given, one of {', '.join(POOLS)} expected")
    hidden = [hidden] if isinstance(hidden, int) else list(hidden)
    if any(not isinstance(units, int) or units < 1 for units in hidden):
        raise InputError(f"options.hidden: {hidden} given, whole numbers above 0 expected")
    if isinstance(dropout, Sequence) and not isinstance(dropout, str):
        rates = list(dropout)
    else:
        rates = [0.0] * len(hidden) + [dropout]  # a single rate is the output layer's
    if any(not isinstance(rate, int | float) or not 0 <= rate < 1 for rate in rates):
        raise InputError(f"options.dropout: {dropout!r} given, 0 to below 1 expected")
    if len(rates) != len(hidden) + 1:
        expected = f"{len(hidden) + 1} expected: one for each dense layer"
        raise InputError(f"options.dropout: {len(rates)} rates given, {expected}")
    return hidden, rates


def split_head(model: keras.Model) -> tuple[keras.Model, keras.Model]:
    """Cut a model of the registry behind its pooling layer: stack to features ``[N, F]``, those to probabilities.

    Both share the layers of `model`: training one trains the whole.
    """
    cut = next((i for i, layer in enumerate(model.layers) if layer.name in POOLS.values()), None)
    if cut is None:
        names = " or ".join(dict.fromkeys(POOLS.values()))
        raise InputError(f"model {model.name}: no layer is named {names}, so there is no head to cut off")
    pooled = model.layers[cut].output
    backbone = keras.Model(model.input, pooled, name=f"{model.name}-backbone")
    x = features = keras.Input(pooled.shape[1:], name="features")
    for layer in model.layers[cut + 1 :]:
        x = layer(x)
    return backbone, keras.Model(features, x, name=f"{model.name}-head")
