"""InceptionV3 (Szegedy et al. 2016, "Rethinking the Inception architecture"), built by `keras.applications`."""

from __future__ import annotations

from . import applications
from .registry import register


@register(
    "inception-v3",
    size=299,
    channels=3,
    planes=3,
    normalization="symmetric",
    feature_layer="mixed10",
    application="InceptionV3",
    head={"pool": "average", "hidden": (10,), "dropout": 0.2},
    summary="eleven inception modules, mixed0 to mixed10",
    origin="ImageNet, by Google, through keras.applications",
    licence="Apache 2.0; trained on ImageNet, for non-commercial research",
    parameters=21_823_285,
    flops=11_422_377_172,
)
def inception_v3(stack):
    """Feature map ``[N, h, w, 2048]``."""
    return applications.backbone("inception-v3", "InceptionV3", stack, 75)
