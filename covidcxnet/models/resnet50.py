"""ResNet50 (He et al. 2016, "Deep residual learning for image recognition"), built by `keras.applications`."""

from __future__ import annotations

from . import applications
from .registry import register


@register(
    "resnet50",
    size=224,
    channels=3,
    planes=3,
    normalization="caffe",
    feature_layer="conv5_block3_out",
    application="ResNet50",
    head={"pool": "average", "hidden": (10,), "dropout": 0.2},
    summary="50 layers with identity shortcuts; blocks conv2 to conv5",
    origin="ImageNet, ported from He et al., through keras.applications",
    licence="MIT; trained on ImageNet, for non-commercial research",
    parameters=23_608_213,
    flops=7_711_891_476,
)
def resnet50(stack):
    """Feature map ``[N, S/32, S/32, 2048]``; blocks are ``conv2_block1`` to ``conv5_block3``."""
    return applications.backbone("resnet50", "ResNet50", stack, 32)
