"""AlexNet in the layout of torchvision (Krizhevsky 2014, "One weird trick"): 61,100,840 parameters for 1000 classes.

Keras has none. The radiography study trains it from torchvision's ImageNet weights; here it starts at random.
"""

from __future__ import annotations

from segmentation.backend import layers

from .registry import check_side, register


@register(
    "alexnet",
    size=224,
    channels=3,
    planes=3,
    normalization="imagenet",
    feature_layer="conv5",
    head={"pool": "flatten", "hidden": (4096, 4096), "dropout": (0.5, 0.5, 0.0)},
    summary="five convolutions, Dense 4096, 4096; torchvision's layout",
    parameters=57_007_937,
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
