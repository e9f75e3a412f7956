"""Batch normalization as TensorFlow's one fused operation, in training and in prediction.

Keras 3 computes it from some ten elementwise operations with as many passes over memory; in a DenseNet, which has a
batch norm before every convolution, that is a quarter of a training step on a CPU, and a tenth of a prediction, where
TensorFlow joins the operation to the ReLU after it (`benchmarks/training.py` and `benchmarks/prediction.py` time both).
The U-Net predicts no faster by it.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import MethodType

import keras


def fuse_batch_norm(model: keras.Model) -> None:
    """Let the batch norms of `model` compute by one operation each, those of inner models too.

    The figures are those of Keras to rounding, and nothing of what is saved changes. Layers that the operation cannot
    compute (other axes than the last, not of images, synchronized replicas) stay as they are; on backends other than
    TensorFlow all do.
    """
    if keras.backend.backend() != "tensorflow":
        return
    for layer in _layers(model):
        if isinstance(layer, keras.layers.BatchNormalization) and _fits(layer):
            # The layer and not its class: Keras names what it saves by the class.
            object.__setattr__(layer, "call", MethodType(_call, layer))


def _layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    for layer in model.layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from _layers(layer)


def _fits(layer: keras.layers.BatchNormalization) -> bool:
    images = layer.input_spec is not None and layer.input_spec.ndim == 4
    return images and layer.axis in (-1, 3) and not layer.synchronized and not layer.renorm


def _call(layer, inputs, training=None, mask=None):
    """As `keras.layers.BatchNormalization.call` for a batch of images, fp[N, H, W, C].

    The moving variance is that of the pixels there are, as Keras 3 takes it, and not the estimate with one degree of
    freedom less that the operation returns.
    """
    import tensorflow as tf

    by_batch = bool(training and layer.trainable)
    # Repeatable runs refuse the gradient by fixed moments on GPUs.
    refused = not by_batch and tf.config.list_physical_devices("GPU")
    if mask is not None or inputs.dtype == tf.float64 or refused:
        return type(layer).call(layer, inputs, training=training, mask=mask)
    moving = layer.moving_mean, layer.moving_variance
    scale = tf.ones_like(moving[0]) if layer.gamma is None else tf.convert_to_tensor(layer.gamma)
    offset = tf.zeros_like(moving[0]) if layer.beta is None else tf.convert_to_tensor(layer.beta)
    moments = [tf.zeros([0])] * 2 if by_batch else [tf.convert_to_tensor(values) for values in moving]
    outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=inputs,
        scale=scale,
        offset=offset,
        mean=moments[0],
        variance=moments[1],
        epsilon=layer.epsilon,
        is_training=by_batch,
    )
    if by_batch:
        pixels = tf.cast(tf.size(inputs) / tf.shape(inputs)[-1], variance.dtype)
        for average, seen in zip(moving, (mean, variance * (pixels - 1) / pixels), strict=True):
            average.assign(average * layer.momentum + seen * (1 - layer.momentum))
    return outputs
