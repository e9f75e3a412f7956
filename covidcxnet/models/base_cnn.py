"""The base CNN of COVID-CXNet: five strided convolutions, no pooling, no batch norm.

Haghanifar et al. 2020, section 4.1; sizes as in the weights that its authors published.
"""

from __future__ import annotations

from enhancement.errors import InputError

from .registry import register


@register(
    "base-cnn",
    size=400,
    channels=1,
    normalization="unit",
    feature_layer="conv_layer5",
    head={"pool": "flatten", "hidden": (10, 10), "dropout": 0.0},
    summary="five strided convolutions, Dense 10, 10; 76,675 parameters at 400 x 400 x 1",
    parameters=76_675,
    flops=294_273_116,
)
def base_cnn(stack, filters: int = 32):
    """Feature map ``[N, h, w, filters]`` of five valid ReLU convolutions of stride 2: one 5 x 5, four 3 x 3."""
    from keras import layers

    least = 65  # Backwards from one pixel: four times 2n + 1, then 2n + 3.
    if stack.shape[1] < least:
        raise InputError(f"model base-cnn: a stack of {stack.shape[1]} pixels given, {least} or more expected")
    x = stack
    for number, side in enumerate((5, 3, 3, 3, 3), start=1):
        x = layers.Conv2D(filters, side, strides=2, activation="relu", name=f"conv_layer{number}")(x)
    return x
