"""ResNet34 in the layout of torchvision (He et al. 2016): 21,797,672 learned parameters for 1000 classes.

Keras begins at 50 layers (a row of `applications`). Strided convolutions pad both sides by one, as in torchvision:
"same" would pad one side only.
"""

from __future__ import annotations

from segmentation.backend import layers

from .registry import check_side, register

STAGES = (3, 4, 6, 3)  # blocks of two convolutions
EPSILON = 1e-5  # PyTorch's
MOMENTUM = 0.9  # PyTorch's 0.1, written the way of Keras


@register(
    "resnet34",
    size=224,
    channels=3,
    planes=3,
    normalization="imagenet",
    feature_layer="layer4_block3_out",
    head={"pool": "average", "hidden": (), "dropout": 0.0},
    summary="34 layers with identity shortcuts, one linear layer; torchvision's layout",
    parameters=21_302_209,
    flops=7_326_499_840,
)
def resnet34(stack):
    """Feature map ``[N, S/32, S/32, 512]``; blocks are ``layer1_block1`` to ``layer4_block3``."""
    check_side("resnet34", stack, 32)
    x = layers.ReLU(name="conv1_relu")(_convolution(stack, 64, 7, 2, "conv1"))
    # The pixels beyond the edge are 0 here and minus infinity there: alike behind a ReLU.
    x = layers.ZeroPadding2D(1, name="pool1_pad")(x)
    x = layers.MaxPooling2D(3, strides=2, name="pool1")(x)
    for stage, depth in enumerate(STAGES, start=1):
        for number in range(1, depth + 1):
            stride = 2 if stage > 1 and number == 1 else 1
            x = _block(x, 32 * 2**stage, stride, f"layer{stage}_block{number}")
    return x


def _block(x, filters: int, stride: int, name: str):
    """Two convolutions, and the way round them: a strided 1 x 1 convolution where the shape changes."""
    short = x if stride == 1 else _convolution(x, filters, 1, stride, f"{name}_short")
    y = layers.ReLU(name=f"{name}_relu1")(_convolution(x, filters, 3, stride, f"{name}_1"))
    y = _convolution(y, filters, 3, 1, f"{name}_2")
    return layers.ReLU(name=f"{name}_out")(layers.Add(name=f"{name}_add")([short, y]))


def _convolution(x, filters: int, side: int, stride: int, name: str):
    if side > 1:
        x = layers.ZeroPadding2D(side // 2, name=f"{name}_pad")(x)
    x = layers.Conv2D(
        filters, side, strides=stride, use_bias=False, kernel_initializer="he_uniform", name=f"{name}_conv"
    )(x)
    return layers.BatchNormalization(epsilon=EPSILON, momentum=MOMENTUM, name=f"{name}_bn")(x)
