"""Keras and its backend: loaded without notices, and batch normalization as TensorFlow's one fused operation."""

from __future__ import annotations

import logging
import os
import platform
import sys
import tempfile
from importlib import import_module
from types import MethodType
from typing import TYPE_CHECKING, Any

from enhancement.errors import InputError

BACKENDS = ("tensorflow", "jax", "torch")


class _OnFirstUse:
    """Stands for a module until one of its attributes is used."""

    def __init__(self, name: str):
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        quiet_backend()
        return getattr(_module(self._name), attribute)


def _module(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        # Keras takes TensorFlow where KERAS_BACKEND does not name another, installed or not.
        if error.name not in BACKENDS:
            raise
        others = " or ".join(name for name in BACKENDS if name != error.name)
        raise InputError(
            f"KERAS_BACKEND: {error.name} is not installed; install it, or set KERAS_BACKEND to {others}"
        ) from error


if TYPE_CHECKING:
    import keras
    from keras import layers, ops
else:
    # Keras and its backend take seconds to import: commands that need no network must not wait for them.
    keras, layers, ops = map(_OnFirstUse, ("keras", "keras.layers", "keras.ops"))


def quiet_backend() -> None:
    """Import Keras without the page of notices that TensorFlow prints before its log level holds.

    What was held back is shown if the import fails. Later notices, of retraced functions for example, stay away too.
    Does nothing once the backend is loaded, and holds nothing back where TF_CPP_MIN_LOG_LEVEL is set to show notices
    (0) or warnings (1). A level that is set already, there or of the logger "tensorflow", stays as it is; so does
    TF_ENABLE_ONEDNN_OPTS, which is 1 otherwise.
    """
    if "tensorflow" in sys.modules or "keras" in sys.modules:
        return
    # By itself TensorFlow takes oneDNN only on processors with AVX-512 for neural networks. On one with AVX2 alone a
    # training step of EfficientNet-Lite0 takes 0.60, one of DenseNet121 0.75 of the time with it.
    if platform.machine().lower() in ("x86_64", "amd64"):
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    # 3, as TensorFlow logs harmless remarks on its own graphs as errors; real errors come as exceptions.
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") in ("0", "1"):
        return
    logger = logging.getLogger("tensorflow")
    level = logger.level or logging.ERROR
    with tempfile.TemporaryFile() as held:
        sys.stderr.flush()
        stderr = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            # Through no proxy, which would begin here again. The devices are found on first use, with more notices.
            _module("keras").random.uniform((1,))
            # Last: in an interpreter, TensorFlow sets the level of its logger when it is imported.
            logger.setLevel(level)
        except BaseException:
            held.seek(0)
            os.write(stderr, held.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def fuse_batch_norm(model: keras.Model) -> None:
    """Let the batch norms of `model`, those of inner models too, compute by one operation each.

    The results are those of Keras up to rounding, and nothing that is saved changes. Layers that the operation cannot
    compute (another axis than the last, not of images, synchronized replicas) stay as they are, as do all of them on
    backends other than TensorFlow.
    """
    # Keras 3 computes a batch norm from some ten elementwise operations with as many passes over memory. In a DenseNet,
    # which has one before every convolution, that is a quarter of a training step on a CPU and a tenth of a prediction
    # (benchmarks/training.py and benchmarks/prediction.py time both); the U-Net predicts no faster.
    if keras.backend.backend() != "tensorflow":
        return
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            fuse_batch_norm(layer)
        elif isinstance(layer, keras.layers.BatchNormalization):
            images = layer.input_spec is not None and layer.input_spec.ndim == 4
            if images and layer.axis in (-1, 3) and not layer.synchronized and not layer.renorm:
                # The layer and not its class: Keras names what it saves by the class.
                object.__setattr__(layer, "call", MethodType(_call, layer))


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
        for average, batch in zip(moving, (mean, variance * (pixels - 1) / pixels), strict=True):
            average.assign(average * layer.momentum + batch * (1 - layer.momentum))
    return outputs
