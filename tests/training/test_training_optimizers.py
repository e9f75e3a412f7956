"""Optimizers and schedules of a recipe."""

import keras
import numpy as np
import pytest

from covidcxnet.training.augmentation import RandomJpeg, augmenter
from covidcxnet.training.fitting import averaged, optimizer_for
from covidcxnet.training.recipe import AugmentSettings, Recipe
from covidcxnet.training.sampling import source_weights
from enhancement.errors import InputError


def rate_at(optimizer, step: int) -> float:
    optimizer.build([keras.Variable(np.zeros(2, "float32"))])
    optimizer.iterations.assign(step)
    return float(keras.ops.convert_to_numpy(optimizer.learning_rate))


def test_a_cosine_rises_from_a_hundredth_and_ends_at_zero():
    recipe = Recipe(schedule="cosine", learning_rate=1e-2, epochs=4, warmup=1)
    rates = [rate_at(optimizer_for(recipe, steps=10), step) for step in (0, 10, 25, 40)]
    np.testing.assert_allclose(rates, [1e-4, 1e-2, 5e-3, 0], atol=1e-8)


def test_a_plateau_schedule_leaves_the_rate_to_the_monitor():
    assert rate_at(optimizer_for(Recipe(learning_rate=3e-4), steps=10), 39) == pytest.approx(3e-4)


@pytest.mark.parametrize(("name", "kind"), [("adam", "Adam"), ("adamw", "AdamW"), ("sgd", "SGD")])
def test_the_optimizer_is_the_one_named(name, kind):
    assert type(optimizer_for(Recipe(optimizer=name), steps=1)).__name__ == kind


def test_adamw_decays_kernels_and_not_biases_or_batch_norms():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2), keras.layers.BatchNormalization()])
    model.get_layer(index=0).bias.assign([1.0, 1.0])
    before = [keras.ops.convert_to_numpy(v).copy() for v in model.trainable_variables]
    optimizer = optimizer_for(Recipe(optimizer="adamw", weight_decay=0.5, learning_rate=0.1), steps=1)
    optimizer.build(model.trainable_variables)
    optimizer.apply_gradients([(keras.ops.zeros_like(v), v) for v in model.trainable_variables])
    changed = {v.name for v, old in zip(model.trainable_variables, before, strict=True)
               if not np.allclose(keras.ops.convert_to_numpy(v), old)}  # fmt: skip
    assert changed == {"kernel"}


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_the_moving_average_is_there_within_the_block_and_the_weights_are_back_after_it(name):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    (kernel,) = model.trainable_variables
    model.compile(optimizer_for(Recipe(optimizer=name, ema=0.5, learning_rate=0.1), steps=1), loss="mse")
    average, seen = None, []
    for _ in range(4):
        model.train_on_batch(np.ones((1, 1)), np.full((1, 1), 5.0))
        seen.append(float(keras.ops.convert_to_numpy(kernel)[0, 0]))
        average = seen[-1] if average is None else 0.5 * average + 0.5 * seen[-1]
    with averaged(model):
        assert float(keras.ops.convert_to_numpy(kernel)[0, 0]) == pytest.approx(average, abs=1e-5)
    assert float(keras.ops.convert_to_numpy(kernel)[0, 0]) == seen[-1] != pytest.approx(average, abs=1e-3)


def test_without_an_average_the_block_has_the_weights_themselves():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(optimizer_for(Recipe(), steps=1), loss="mse")
    model.train_on_batch(np.ones((1, 1)), np.ones((1, 1)))
    before = model.get_weights()
    with averaged(model):
        for one, other in zip(before, model.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"optimizer": "adagrad"}, "optimizer"),
        ({"schedule": "step"}, "schedule"),
        ({"weight_decay": 0.1}, "weight_decay"),
        ({"warmup": 2}, "warmup"),
        ({"warmup": 5, "schedule": "cosine", "epochs": 5}, "warmup"),
        ({"class_weights": "sources"}, "class_weights"),
        ({"ema": 1.0}, "ema"),
        ({"ema": 0.9, "model": "logistic-regression"}, "ema"),
    ],
)
def test_settings_that_do_not_go_together_are_refused_by_name(values, key):
    with pytest.raises(InputError, match=f"^{key}: "):
        Recipe(**values)


def test_with_source_weights_classes_within_a_source_count_the_same_and_a_source_by_its_root():
    labels = np.repeat([0, 1, 0, 1], [60, 4, 16, 16])
    sources = np.repeat(["both", "both", "one", "other"], [60, 4, 16, 16])
    weights = source_weights(labels, sources)
    sums = [weights[:60].sum(), weights[60:64].sum(), weights[64:80].sum(), weights[80:].sum()]
    np.testing.assert_allclose(sums, np.array([4, 4, 4, 4]) * 96 / 16, rtol=1e-5)  # roots 8, 4 and 4
    np.testing.assert_allclose(source_weights(labels, sources, rare=True), weights, rtol=1e-6)  # no class is rarer


def test_rare_classes_make_a_source_count_more_where_asked():
    labels = np.repeat([0, 1, 0], [60, 4, 16])
    sources = np.repeat(["both", "both", "one"], [60, 4, 16])
    weights = source_weights(labels, sources, rare=True)
    sums = [weights[:60].sum(), weights[60:64].sum(), weights[64:].sum()]
    # by roots class 0 has 4 + 4 and class 1 has 4: "both" counts root 12/4 times, "one" root 12/8 times
    parts = np.array([4 * 3**0.5, 4 * 3**0.5, 4 * 1.5**0.5])
    np.testing.assert_allclose(sums, parts * 80 / parts.sum(), rtol=1e-5)
    plain = source_weights(labels, sources)
    assert plain[60:64].sum() == pytest.approx(plain[64:].sum())  # roots 8, of two classes, and 4


def test_jpeg_augmentation_loses_what_opencv_s_jpeg_loses():
    import cv2

    y, x = np.mgrid[0:60, 0:52]
    image = np.clip(128 + 60 * np.sin(x / 3) * np.cos(y / 5) + np.random.default_rng(0).normal(0, 12, x.shape), 0, 255)
    image = np.pad(image.astype("uint8"), ((0, 4), (0, 4)), mode="reflect")
    layer = RandomJpeg(30)
    layer.draw = lambda images, low, high: keras.ops.full((1, 1, 1, 1), low)
    ours = keras.ops.convert_to_numpy(layer(image[None, :, :, None].astype("float32"), training=True))[0, :, :, 0]
    theirs = cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 30])[1], cv2.IMREAD_GRAYSCALE)
    lost = np.abs(theirs.astype(float) - image).mean()
    assert lost > 3
    assert np.abs(ours - theirs).mean() < 0.1 * lost


def test_jpeg_augmentation_takes_sizes_that_are_no_multiple_of_eight_and_is_silent_in_prediction():
    (layer,) = augmenter(AugmentSettings(rotation=0, shift=0, zoom=(1, 1), brightness=(1, 1), jpeg=20))
    images = np.random.default_rng(0).integers(0, 256, (2, 21, 30, 3)).astype("float32")
    varied = keras.ops.convert_to_numpy(layer(images, training=True))
    assert varied.shape == images.shape
    assert np.abs(varied - images).mean() > 1
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(layer(images)), images)
