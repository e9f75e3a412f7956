"""Xception (Chollet 2017, depthwise separable convolutions), with the layers of `keras.applications`."""

from __future__ import annotations

from . import applications
from .registry import register


@register(
    "xception",
    size=299,
    channels=3,
    planes=3,
    normalization="symmetric",
    feature_layer="block14_sepconv2_act",
    application="Xception",
    head={"pool": "average", "hidden": (10,), "dropout": 0.2},
    summary="36 convolutions, most of them separable; block1 to block14",
    origin="ImageNet, by its author, through keras.applications",
    licence="MIT; trained on ImageNet, for non-commercial research",
    parameters=20_881_981,
    flops=16_710_751_972,
)
def xception(stack):
    """Feature map ``[N, h, w, 2048]``; blocks are ``block1`` to ``block14``."""
    return applications.backbone("xception", "Xception", stack, 71)
