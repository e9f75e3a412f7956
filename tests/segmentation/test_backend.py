"""Batch normalization by one operation gives the figures of Keras' own."""

import keras
import numpy as np
import pytest

from segmentation.backend import fuse_batch_norm

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="an operation of TensorFlow")


def network(**options) -> keras.Model:
    """A convolution, a batch norm, and another in a model of its own."""
    image = keras.Input((6, 5, 3))
    x = keras.layers.Conv2D(4, 3, padding="same", use_bias=False, name="conv")(image)
    x = keras.layers.BatchNormalization(momentum=0.8, epsilon=1e-2, name="bn", **options)(x)
    inner_image = keras.Input(x.shape[1:])
    inner = keras.Model(inner_image, keras.layers.BatchNormalization(name="inner_bn", **options)(inner_image))
    return keras.Model(image, keras.layers.GlobalAveragePooling2D()(keras.layers.Activation("relu")(inner(x))))


def twins(random, **options) -> tuple[keras.Model, keras.Model]:
    """The same network twice with weights that are not their initial ones, the second fused."""
    plain, fused = network(**options), network(**options)
    values = [random.uniform(0.5, 1.5, w.shape).astype("float32") for w in plain.get_weights()]
    for model in (plain, fused):
        model.set_weights(values)
    fuse_batch_norm(fused)
    return plain, fused


def is_fused(layer: keras.layers.Layer) -> bool:
    return "call" in vars(layer)


def gradients(model: keras.Model, images: np.ndarray) -> list[np.ndarray]:
    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(images, training=True) ** 2)
    return [g.numpy() for g in tape.gradient(loss, [v.value for v in model.trainable_variables])]


@pytest.mark.parametrize("options", [{}, {"scale": False}, {"center": False}, {"trainable": False}])
def test_the_figures_of_keras_under_the_same_names(options, tmp_path):
    random = np.random.default_rng(0)
    images = random.normal(2, 3, (4, 6, 5, 3)).astype("float32")
    plain, fused = twins(random, **options)
    for expected, given in zip(gradients(plain, images), gradients(fused, images), strict=True):
        np.testing.assert_allclose(given, expected, rtol=1e-3, atol=1e-4)
    for expected, given in zip(plain.get_weights(), fused.get_weights(), strict=True):  # the moving moments with them
        np.testing.assert_allclose(given, expected, rtol=1e-5)
    np.testing.assert_allclose(fused(images), plain(images), rtol=1e-4)
    assert [v.path for v in fused.variables] == [v.path for v in plain.variables]
    fused.save_weights(tmp_path / "fused.weights.h5")
    plain.load_weights(tmp_path / "fused.weights.h5")
    for expected, given in zip(fused.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(given, expected)


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_half_precision_keeps_its_dtype_and_moments_are_those_of_the_pixels(dtype):
    images = np.random.default_rng(1).normal(size=(4, 6, 5, 3)).astype("float32")
    layer = keras.layers.BatchNormalization(momentum=0, dtype=dtype)
    model = keras.Sequential([keras.Input((6, 5, 3)), layer])
    fuse_batch_norm(model)
    outputs = model(images, training=True)
    assert is_fused(layer) and outputs.dtype == layer.compute_dtype and layer.moving_mean.dtype == "float32"
    values, tolerance = np.asarray(outputs, "float32"), 1e-5 if dtype == "float32" else 1e-2
    np.testing.assert_allclose(values.mean((0, 1, 2)), 0, atol=1e-2)
    np.testing.assert_allclose(values.std((0, 1, 2)), 1, atol=1e-2)
    np.testing.assert_allclose(layer.moving_mean, images.mean((0, 1, 2)), atol=tolerance)
    np.testing.assert_allclose(layer.moving_variance, images.var((0, 1, 2)), rtol=tolerance)  # not n / (n - 1) of it


def test_what_it_cannot_do_stays_with_keras():
    image, row = keras.Input((4, 4, 3)), keras.Input((7,))
    outputs = [
        keras.layers.BatchNormalization(axis=1, name="rows")(image),
        keras.layers.BatchNormalization(synchronized=True, name="replicas")(image),
        keras.layers.BatchNormalization(name="features")(row),
        keras.layers.BatchNormalization(name="double", dtype="float64")(image),
        keras.layers.BatchNormalization(name="images")(image),
    ]
    model = keras.Model([image, row], outputs)
    fuse_batch_norm(model)
    fused = {layer.name for layer in model.layers if is_fused(layer)}
    assert fused == {"images", "double"}  # of double what comes in decides
    values = np.random.default_rng(2).normal(size=(2, 4, 4, 3))
    assert model([values, np.ones((2, 7))], training=True)[3].dtype == "float64"
