"""VGG16 and VGG19 (Simonyan and Zisserman 2015), with the layers of `keras.applications`.

The last feature map for Grad-CAM is that before the last pooling: twice as fine, and the same features.
"""

from __future__ import annotations

from . import applications
from .registry import register


@register(
    "vgg16",
    size=224,
    channels=3,
    planes=3,
    normalization="caffe",
    feature_layer="block5_conv3",
    application="VGG16",
    head={"pool": "average", "hidden": (10,), "dropout": 0.2},
    summary="13 convolutions in five blocks",
    origin="ImageNet, ported from the Visual Geometry Group, Oxford, through keras.applications",
    licence="CC BY 4.0; trained on ImageNet, for non-commercial research",
    parameters=14_719_829,
    flops=30_693_271_572,
)
def vgg16(stack):
    """Pooled feature map ``[N, S/32, S/32, 512]``; blocks are ``block1`` to ``block5``."""
    return applications.backbone("vgg16", "VGG16", stack, 32)


@register(
    "vgg19",
    size=224,
    channels=3,
    planes=3,
    normalization="caffe",
    feature_layer="block5_conv4",
    application="VGG19",
    head={"pool": "average", "hidden": (10,), "dropout": 0.2},
    summary="16 convolutions in five blocks",
    origin="ImageNet, ported from the Visual Geometry Group, Oxford, through keras.applications",
    licence="CC BY 4.0; trained on ImageNet, for non-commercial research",
    parameters=20_029_525,
    flops=39_016_867_860,
)
def vgg19(stack):
    """Pooled feature map ``[N, S/32, S/32, 512]``; blocks are ``block1`` to ``block5``."""
    return applications.backbone("vgg19", "VGG19", stack, 32)
