"""Two small networks: that of the pediatric pneumonia study, and the base CNN of COVID-CXNet.

The first has 558,849 parameters at 128 x 128 x 3, as published: five blocks of a valid 3 x 3 convolution, batch norm,
ReLU and 2 x 2 max pooling, with dropout between blocks. It is quick enough for a first run on two cores. The second has
five strided convolutions, no pooling, no batch norm (Haghanifar et al. 2020, section 4.1); its sizes are those of the
weights that its authors published.
"""

from __future__ import annotations

from collections.abc import Sequence

from enhancement.errors import InputError
from segmentation.backend import layers

from .registry import check_side, register

FILTERS = (32, 64, 64, 128, 256)
# Keras' 0.99 averages over some hundred steps: more than the first epochs of a small data set have.
MOMENTUM = 0.9


@register(
    "small-cnn",
    size=128,
    channels=3,
    normalization="unit",
    feature_layer="last_relu",
    head={"pool": "flatten", "hidden": (128,), "dropout": 0.0},
    summary="five convolution blocks, Dense 128; 558,849 parameters at 128 x 128 x 3",
    parameters=558_849,
    layers=(28, 7),
    flops=253_340_672,
)
def small_cnn(stack, filters: Sequence[int] = FILTERS, block_dropout: float = 0.1):
    """Pooled feature map ``[N, h, w, F]`` of the last block; the finer map before that pooling is layer ``last_relu``.

    `filters` has one number for each block. The study does not print its dropout rates; `block_dropout` follows each
    block but the last.
    """
    filters = list(filters)
    if not filters or any(not isinstance(n, int) or n < 1 for n in filters):
        raise InputError(f"options.filters: {filters} given, whole numbers above 0 expected")
    if not 0 <= block_dropout < 1:
        raise InputError(f"options.block_dropout: {block_dropout!r} given, 0 to below 1 expected")
    least = 1
    for _ in filters:
        least = 2 * least + 2  # undo the pooling, then the valid convolution
    check_side("small-cnn", stack, least)
    x = stack
    for number, width in enumerate(filters, start=1):
        last = number == len(filters)
        x = layers.Conv2D(width, 3, name=f"conv{number}")(x)
        x = layers.BatchNormalization(momentum=MOMENTUM, name=f"bn{number}")(x)
        x = layers.ReLU(name="last_relu" if last else f"relu{number}")(x)
        x = layers.MaxPooling2D(2, name=f"pool{number}")(x)
        if block_dropout and not last:
            x = layers.Dropout(block_dropout, name=f"dropout{number}")(x)
    return x


@register(
    "base-cnn",
    size=400,
    channels=1,
    normalization="unit",
    feature_layer="conv_layer5",
    head={"pool": "flatten", "hidden": (10, 10), "dropout": 0.0},
    summary="five strided convolutions, Dense 10, 10; 76,675 parameters at 400 x 400 x 1",
    parameters=76_675,
    layers=(10, 8),
    flops=294_273_116,
)
def base_cnn(stack, filters: int = 32):
    """Feature map ``[N, h, w, filters]`` of five valid ReLU convolutions of stride 2: one 5 x 5, four 3 x 3."""
    check_side("base-cnn", stack, 65)  # backwards from one pixel: four times 2n + 1, then 2n + 3
    x = stack
    for number, side in enumerate((5, 3, 3, 3, 3), start=1):
        x = layers.Conv2D(filters, side, strides=2, activation="relu", name=f"conv_layer{number}")(x)
    return x
