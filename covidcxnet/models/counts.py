"""How large a built model is: layers, parameters, and floating point operations from the shapes of its layers."""

from __future__ import annotations

import math

from segmentation.backend import keras


def parameters(model: keras.Model) -> tuple[int, int]:
    """All parameters of a model, and those that are learned: without the moving averages of batch norms.

    Frozen layers count as learned; PyTorch's counts are of the second kind.
    """
    everything = sum(_size(weight) for layer in model.layers for weight in layer.weights)
    learned = sum(_size(weight) for layer in model.layers for weight in layer.weights if _is_learned(layer, weight))
    return everything, learned


def flops(model: keras.Model) -> int:
    """Floating point operations for one stack: two for each multiply-add of convolutions and dense layers.

    Counted from kernel and output shapes alone, so alike under every backend. Biases, batch norms, activations and
    pooling are left out; many tables print multiply-adds, which are half of this number.
    """
    return 2 * sum(_multiply_adds(layer) for layer in model.layers)


def layers(model: keras.Model) -> tuple[int, int]:
    """All layers of a model, its input among them, and those that convolve or are dense: what papers count.

    A separable convolution counts once; shortcuts of residual networks and the head count too.
    """
    kinds = [type(layer).__name__ for layer in model.layers]
    return len(kinds), sum("Conv" in kind or "Dense" in kind for kind in kinds)


def _multiply_adds(layer) -> int:
    kind = type(layer).__name__
    if kind == "EinsumDense":  # of logistic regression: a weight of its own for each pixel
        return _size(layer.kernel)
    if kind in ("Dense", "Conv2D", "DepthwiseConv2D"):
        # A kernel's entries are each used once for every pixel of the map, with or without groups.
        return _size(layer.kernel) * math.prod(layer.output.shape[1:-1])
    if kind == "SeparableConv2D":
        kernels = _size(layer.depthwise_kernel) + _size(layer.pointwise_kernel)
        return kernels * math.prod(layer.output.shape[1:-1])
    return 0


def _is_learned(layer, weight) -> bool:
    kind = type(layer).__name__
    moving = kind == "BatchNormalization" and (weight is layer.moving_mean or weight is layer.moving_variance)
    return not moving and kind != "Normalization"


def _size(weight) -> int:
    return math.prod(weight.shape)
