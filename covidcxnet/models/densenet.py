"""COVID-CXNet: DenseNet121 with a head of ten units (Haghanifar et al. 2020, section 4.3).

Huang et al. 2017, "Densely connected convolutional networks". Layers, names and order are those of
`keras.applications.DenseNet121`, so weights go from one to the other by position; unlike there, depth and growth can be
chosen, which makes a network of seconds for tests.
"""

from __future__ import annotations

from collections.abc import Sequence

from enhancement.errors import InputError
from segmentation.backend import layers

from .registry import check_side, register

DENSENET121 = (6, 12, 24, 16)
EPSILON = 1.001e-5  # of the published weights for Keras, whose default is 1e-3; 1e-5 of those for PyTorch
# What published weights of DenseNet121 ask of a model that takes them.
PUBLISHED = {
    "application": "DenseNet121",
    "published_options": ("blocks", "growth"),
    "three_plane_weights": ("imagenet", "chexnet", "covid-cxnet-chexnet"),
    "licence": "BSD 3-clause; trained on ImageNet, for non-commercial research; CheXNet: MIT",
}


@register(
    "covid-cxnet",
    size=320,
    channels=3,
    region="crop",
    normalization="unit",
    feature_layer="relu",
    head={"pool": "average", "hidden": (10,), "dropout": 0.2, "activation": None},
    origin="ImageNet, ported from Huang et al., through keras.applications; CheXNet, see covidcxnet weights list",
    summary="DenseNet121, global average pooling, Dense 10, dropout 0.2; 7,047,765 parameters",
    parameters=7_047_765,
    layers=(431, 122),
    accuracy=(75.0, 92.3, "DenseNet121 at keras.io/api/applications"),
    flops=11_563_847_700,
    **PUBLISHED,
)
def densenet(
    stack,
    blocks: Sequence[int] = DENSENET121,
    growth: int = 32,
    final_relu: bool = True,
    momentum: float = 0.99,
    epsilon: float = EPSILON,
):
    """Feature map ``[N, S/32, S/32, F]`` of a DenseNet-BC with compression one half.

    `blocks` are the layers in each dense block, `growth` the feature maps that each of them adds. Without `final_relu`
    none follows the last batch norm, as in Keras before August 2018, when CheXNet was trained. `momentum` is that of
    the batch norms: Keras' 0.99, or 0.9, which keeps up when trained from scratch on a thousand images; `epsilon` is
    what they add to variances.
    """
    blocks = list(blocks)
    if not blocks or any(not isinstance(n, int) or n < 1 for n in [*blocks, growth]):
        raise InputError(f"options: blocks {blocks} and growth {growth!r} given, whole numbers above 0 expected")
    norm = {"momentum": momentum, "epsilon": epsilon}
    check_side("covid-cxnet", stack, 2 ** (len(blocks) + 1))  # the stem halves twice, every block but the last once
    x = layers.ZeroPadding2D(3, name="conv1_pad")(stack)
    x = layers.Conv2D(2 * growth, 7, strides=2, use_bias=False, name="conv1_conv")(x)
    x = _norm_relu(x, "conv1", norm)
    x = layers.ZeroPadding2D(1, name="pool1_pad")(x)
    x = layers.MaxPooling2D(3, strides=2, name="pool1")(x)
    for number, depth in enumerate(blocks, start=2):
        if number > 2:
            x = _transition(x, f"pool{number - 1}", norm)
        for layer in range(1, depth + 1):
            x = _dense_layer(x, growth, f"conv{number}_block{layer}", norm)
    x = layers.BatchNormalization(**norm, name="bn")(x)
    return layers.Activation("relu", name="relu")(x) if final_relu else x


def _dense_layer(x, growth: int, name: str, norm: dict[str, float]):
    """Bottleneck of 4 x growth, then `growth` new maps beside the old ones."""
    new = _norm_relu(x, f"{name}_0", norm)
    new = layers.Conv2D(4 * growth, 1, use_bias=False, name=f"{name}_1_conv")(new)
    new = _norm_relu(new, f"{name}_1", norm)
    new = layers.Conv2D(growth, 3, padding="same", use_bias=False, name=f"{name}_2_conv")(new)
    return layers.Concatenate(name=f"{name}_concat")([x, new])


def _transition(x, name: str, norm: dict[str, float]):
    width = x.shape[-1] // 2
    x = layers.Conv2D(width, 1, use_bias=False, name=f"{name}_conv")(_norm_relu(x, name, norm))
    return layers.AveragePooling2D(2, strides=2, name=f"{name}_pool")(x)


def _norm_relu(x, name: str, norm: dict[str, float]):
    x = layers.BatchNormalization(**norm, name=f"{name}_bn")(x)
    return layers.Activation("relu", name=f"{name}_relu")(x)
