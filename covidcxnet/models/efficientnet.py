"""EfficientNetB1 (Tan and Le 2019, compound scaling), with the layers of `keras.applications`.

It scales by layers of its own, so that its stack stays 0..255: those layers are given ImageNet's mean and deviation.
Statistics of other images are put ahead of them so that what comes out is scaled by those.
"""

from __future__ import annotations

import numpy as np

from . import applications
from .registry import register
from .scaling import IMAGENET_MEAN, IMAGENET_STD


@register(
    "efficientnet-b1",
    size=240,
    channels=3,
    planes=3,
    normalization="none",
    scalings=("none", "radiograph"),
    scales=True,
    feature_layer="top_activation",
    application="EfficientNetB1",
    head={"pool": "average", "hidden": (10,), "dropout": 0.2},
    summary="compound scaling of depth, width and size; block1 to block7",
    origin="ImageNet, by Google, through keras.applications",
    licence="Apache 2.0 at tensorflow/tpu, Keras states none; trained on ImageNet, for non-commercial research",
    parameters=6_588_060,
    flops=1_371_071_284,
)
def efficientnet_b1(stack):
    """Feature map ``[N, S/32, S/32, 1280]``; blocks are ``block1a`` to ``block7b``."""
    network = applications.network("efficientnet-b1", "EfficientNetB1", stack, 32)
    set_statistics(network.get_layer("normalization"), IMAGENET_MEAN, np.square(IMAGENET_STD))
    return network.output


def set_statistics(layer, mean, variance) -> None:
    """Give a normalization layer the mean and variance of each plane, on a scale of 0..1."""
    layer.set_weights([np.asarray(mean, "float32"), np.asarray(variance, "float32"), *layer.get_weights()[2:]])
    layer.finalize_state()
