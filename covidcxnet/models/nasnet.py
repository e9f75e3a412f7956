"""NASNet-A Mobile (Zoph et al. 2018, an architecture found by search), with the layers of `keras.applications`."""

from __future__ import annotations

from . import applications
from .registry import register


@register(
    "nasnet-mobile",
    size=224,
    channels=3,
    planes=3,
    normalization="symmetric",
    feature_layer="activation_187",
    application="NASNetMobile",
    head={"pool": "average", "hidden": (10,), "dropout": 0.2},
    summary="cells found by search, for small machines",
    origin="ImageNet, by Google, through keras.applications",
    licence="Apache 2.0; trained on ImageNet, for non-commercial research",
    parameters=4_280_297,
    flops=1_125_186_772,
)
def nasnet_mobile(stack):
    """Feature map ``[N, S/32, S/32, 1056]``."""
    return applications.backbone("nasnet-mobile", "NASNetMobile", stack, 32)
