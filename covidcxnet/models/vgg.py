"""VGG19 with batch norm in the layout of torchvision: 143,678,248 learned parameters for 1000 classes.

Keras has VGG16 and VGG19 only without batch norm (Simonyan and Zisserman 2015; Ioffe and Szegedy 2015); those are
rows of `applications`.
"""

from __future__ import annotations

from segmentation.backend import layers

from .registry import check_side, register

BLOCKS = ((2, 64), (2, 128), (4, 256), (4, 512), (4, 512))  # convolutions, filters
EPSILON = 1e-5  # PyTorch's
MOMENTUM = 0.9  # PyTorch's 0.1, written the way of Keras


@register(
    "vgg19-bn",
    size=224,
    channels=3,
    planes=3,
    normalization="imagenet",
    feature_layer="block5_relu4",
    head={"pool": "flatten", "hidden": (4096, 4096), "dropout": (0.0, 0.5, 0.5)},
    summary="16 convolutions with batch norm, Dense 4096, 4096; torchvision's layout",
    parameters=139_596_353,
    flops=39_255_941_120,
)
def vgg19_bn(stack):
    """Pooled feature map ``[N, S/32, S/32, 512]``; blocks are ``block1`` to ``block5``."""
    check_side("vgg19-bn", stack, 32)
    x = stack
    for block, (depth, filters) in enumerate(BLOCKS, start=1):
        for number in range(1, depth + 1):
            x = layers.Conv2D(
                filters, 3, padding="same", kernel_initializer="he_uniform", name=f"block{block}_conv{number}"
            )(x)
            x = layers.BatchNormalization(epsilon=EPSILON, momentum=MOMENTUM, name=f"block{block}_bn{number}")(x)
            x = layers.ReLU(name=f"block{block}_relu{number}")(x)
        x = layers.MaxPooling2D(2, name=f"block{block}_pool")(x)
    return x
