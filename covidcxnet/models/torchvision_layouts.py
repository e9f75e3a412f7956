"""Networks in the layout of torchvision: AlexNet, VGG19 with batch norm, ResNet34, which Keras lacks, and ResNet50.

For 1000 classes they have 61,100,840, 143,678,248, 21,797,672 and 25,557,032 learned parameters (Krizhevsky 2014, "One
weird trick"; Simonyan and Zisserman 2015; He et al. 2016). VGG16, VGG19 and the ResNet50 of the paper, with the stride
in the first 1 x 1 convolution of a block, are rows of `applications`; torchvision's has it in the 3 x 3.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from segmentation.backend import layers

from .registry import check_side, register

EPSILON = 1e-5  # PyTorch's
MOMENTUM = 0.9  # PyTorch's 0.1, written the way of Keras
VGG19 = ((2, 64), (2, 128), (4, 256), (4, 512), (4, 512))  # convolutions and filters of a block
RESNETS = (3, 4, 6, 3)  # blocks, of two convolutions in ResNet34 and three in ResNet50
_SHARED: dict[str, Any] = {
    "size": 224,
    "channels": 3,
    "normalization": "imagenet",
    "origin": "ImageNet, by torchvision",
    "licence": "BSD 3-clause; trained on ImageNet, for non-commercial research",
}


@register(
    "alexnet",
    **_SHARED,
    planes=3,
    imagenet="torchvision-alexnet",
    feature_layer="conv5",
    head={"pool": "flatten", "hidden": (4096, 4096), "dropout": (0.5, 0.5, 0.0)},
    summary="five convolutions, Dense 4096, 4096; torchvision's layout",
    parameters=57_007_937,
    layers=(16, 8),
    accuracy=(56.522, 79.066, "torchvision"),
    flops=1_420_193_152,
)
def alexnet(stack):
    """Pooled feature map ``[N, h, w, 256]``."""
    # 6 x 6 at 224 pixels, so that torchvision's adaptive pooling is not needed.
    check_side("alexnet", stack, 63)
    x = layers.ZeroPadding2D(2, name="conv1_pad")(stack)
    x = layers.Conv2D(64, 11, strides=4, activation="relu", name="conv1")(x)
    x = layers.MaxPooling2D(3, strides=2, name="pool1")(x)
    x = layers.Conv2D(192, 5, padding="same", activation="relu", name="conv2")(x)
    x = layers.MaxPooling2D(3, strides=2, name="pool2")(x)
    for number, filters in ((3, 384), (4, 256), (5, 256)):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu", name=f"conv{number}")(x)
    return layers.MaxPooling2D(3, strides=2, name="pool5")(x)


@register(
    "vgg19-bn",
    **_SHARED,
    planes=3,
    imagenet="torchvision-vgg19-bn",
    feature_layer="block5_relu4",
    head={"pool": "flatten", "hidden": (4096, 4096), "dropout": (0.0, 0.5, 0.5)},
    summary="16 convolutions with batch norm, Dense 4096, 4096; torchvision's layout",
    parameters=139_596_353,
    layers=(60, 19),
    accuracy=(74.218, 91.842, "torchvision"),
    flops=39_255_941_120,
)
def vgg19_bn(stack):
    """Pooled feature map ``[N, S/32, S/32, 512]``; blocks are ``block1`` to ``block5``."""
    check_side("vgg19-bn", stack, 32)
    x = stack
    for block, (depth, filters) in enumerate(VGG19, start=1):
        for number in range(1, depth + 1):
            x = layers.Conv2D(
                filters, 3, padding="same", kernel_initializer="he_uniform", name=f"block{block}_conv{number}"
            )(x)
            x = layers.BatchNormalization(epsilon=EPSILON, momentum=MOMENTUM, name=f"block{block}_bn{number}")(x)
            x = layers.ReLU(name=f"block{block}_relu{number}")(x)
        x = layers.MaxPooling2D(2, name=f"block{block}_pool")(x)
    return x


@register(
    "resnet34",
    **_SHARED,
    planes=3,
    imagenet="torchvision-resnet34",
    feature_layer="layer4_block3_out",
    head={"pool": "average", "hidden": (), "dropout": 0.0},
    summary="34 layers with identity shortcuts, one linear layer; torchvision's layout",
    parameters=21_302_209,
    layers=(159, 37),
    accuracy=(73.314, 91.42, "torchvision"),
    flops=7_326_499_840,
)
def resnet34(stack):
    """Feature map ``[N, S/32, S/32, 512]``; blocks are ``layer1_block1`` to ``layer4_block3``."""
    return _resnet("resnet34", stack, _block, 1)


@register(
    "resnet50-torchvision",
    **_SHARED,
    imagenet="torchvision-resnet50",
    three_plane_weights=("imagenet", "torchvision-resnet50"),
    feature_layer="layer4_block3_out",
    head={"pool": "average", "hidden": (), "dropout": 0.0},
    summary="50 layers, strides in the 3 x 3 convolutions, one linear layer; torchvision's layout",
    parameters=23_563_201,
    layers=(193, 54),
    accuracy=(76.13, 92.862, "torchvision, IMAGENET1K_V1"),
    flops=8_174_276_608,
)
def resnet50(stack):
    """Feature map ``[N, S/32, S/32, 2048]``; blocks are ``layer1_block1`` to ``layer4_block3``."""
    return _resnet("resnet50-torchvision", stack, _bottleneck, 4)


def _resnet(name: str, stack, block: Callable[..., Any], expansion: int):
    check_side(name, stack, 32)
    x = layers.ReLU(name="conv1_relu")(_convolution(stack, 64, 7, 2, "conv1"))
    # The pixels beyond the edge are 0 here and minus infinity there: alike behind a ReLU.
    x = layers.ZeroPadding2D(1, name="pool1_pad")(x)
    x = layers.MaxPooling2D(3, strides=2, name="pool1")(x)
    for stage, depth in enumerate(RESNETS, start=1):
        for number in range(1, depth + 1):
            name, filters, stride = f"layer{stage}_block{number}", 32 * 2**stage, 2 if stage > 1 and number == 1 else 1
            # The way round the convolutions is a strided 1 x 1 convolution where the shape changes.
            alike = stride == 1 and x.shape[-1] == expansion * filters
            short = x if alike else _convolution(x, expansion * filters, 1, stride, f"{name}_short")
            x = layers.Add(name=f"{name}_add")([short, block(x, filters, stride, name)])
            x = layers.ReLU(name=f"{name}_out")(x)
    return x


def _block(x, filters: int, stride: int, name: str):
    x = layers.ReLU(name=f"{name}_relu1")(_convolution(x, filters, 3, stride, f"{name}_1"))
    return _convolution(x, filters, 3, 1, f"{name}_2")


def _bottleneck(x, filters: int, stride: int, name: str):
    x = layers.ReLU(name=f"{name}_relu1")(_convolution(x, filters, 1, 1, f"{name}_1"))
    x = layers.ReLU(name=f"{name}_relu2")(_convolution(x, filters, 3, stride, f"{name}_2"))
    return _convolution(x, 4 * filters, 1, 1, f"{name}_3")


def _convolution(x, filters: int, side: int, stride: int, name: str):
    # Both sides are padded, as in torchvision; "same" would pad one side of a strided convolution only.
    if side > 1:
        x = layers.ZeroPadding2D(side // 2, name=f"{name}_pad")(x)
    x = layers.Conv2D(
        filters, side, strides=stride, use_bias=False, kernel_initializer="he_uniform", name=f"{name}_conv"
    )(x)
    return layers.BatchNormalization(epsilon=EPSILON, momentum=MOMENTUM, name=f"{name}_bn")(x)
