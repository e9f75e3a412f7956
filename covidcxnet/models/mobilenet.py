"""MobileNetV3Large (Howard et al. 2019), with the layers of `keras.applications`.

The scaling layer that stands in the network there is an operation of our graph, like every model's here.
"""

from __future__ import annotations

from . import applications
from .registry import register


@register(
    "mobilenet-v3-large",
    size=224,
    channels=3,
    planes=3,
    normalization="symmetric",
    feature_layer="activation_19",
    application="MobileNetV3Large",
    head={"pool": "average", "hidden": (10,), "dropout": 0.2},
    summary="inverted residuals with squeeze and excitation",
    origin="ImageNet, by Google, through keras.applications",
    licence="Apache 2.0 at tensorflow/models, Keras states none; trained on ImageNet, for non-commercial research",
    parameters=3_005_973,
    flops=428_181_140,
)
def mobilenet_v3_large(stack):
    """Feature map ``[N, S/32, S/32, 960]``."""
    return applications.backbone("mobilenet-v3-large", "MobileNetV3Large", stack, 32, include_preprocessing=False)
