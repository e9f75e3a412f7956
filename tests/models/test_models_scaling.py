"""Normalization: by statistics of radiographs or of one's own images, the same again from a weights file's options."""

import json

import numpy as np
import pytest

from covidcxnet.models import create
from covidcxnet.models.scaling import RADIOGRAPH_MEAN, RADIOGRAPH_STD, check_normalization, check_statistics, scale
from enhancement.errors import InputError

SMALL = {"size": 32, "filters": (4, 4)}


def scaled(normalization, channels):
    import keras

    stack = keras.Input((4, 4, channels))
    return keras.Model(stack, scale(stack, normalization))


def stacks(channels, size=4):
    return np.random.default_rng(0).integers(0, 256, (2, size, size, channels), dtype=np.uint8)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_radiograph_statistics_are_the_same_for_any_number_of_planes(channels):
    x = stacks(channels)
    expected = (x / 255 - RADIOGRAPH_MEAN) / RADIOGRAPH_STD
    np.testing.assert_allclose(scaled("radiograph", channels)(x), expected, rtol=1e-4, atol=1e-5)


def test_own_statistics_are_those_of_each_plane():
    x, mean, std = stacks(2), [0.2, 0.7], [0.1, 0.3]
    found = scaled({"mean": mean, "std": std}, 2)(x)
    np.testing.assert_allclose(found, (x / 255 - mean) / std, rtol=1e-4, atol=1e-5)


def test_a_model_is_rebuilt_exactly_from_options_that_went_through_json():
    options = {**SMALL, "channels": 2, "normalization": {"mean": [0.2, 0.7], "std": [0.1, 0.3]}}
    one = create("small-cnn", **options)
    other = create("small-cnn", **json.loads(json.dumps(options)))
    other.set_weights(one.get_weights())
    x = stacks(2, 32)
    np.testing.assert_array_equal(one(x), other(x))
    plain = create("small-cnn", **{**options, "normalization": "unit"})
    plain.set_weights(one.get_weights())
    assert not np.allclose(one(x), plain(x))


def test_a_network_that_scales_by_itself_sees_other_statistics_as_it_would_its_own():
    import keras

    x = stacks(3, 32)
    model = create("efficientnet-b1", size=32, normalization={"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3]})
    first = next(layer for layer in model.layers if isinstance(layer, keras.layers.Normalization))
    seen = np.asarray(keras.Model(model.input, first.output)(x))
    expected = (x / 255 - [0.4, 0.5, 0.6]) / [0.2, 0.25, 0.3]
    np.testing.assert_allclose(seen, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mean": [0.5]}, "expected"),
        ({"mean": [0.5, 0.5], "std": [0.2, 0.2], "var": [1, 1]}, "expected"),
        ({"mean": [0.5], "std": [0.2]}, "1 numbers given for 2 channels"),
        ({"mean": [0.5, 0.5], "std": [0.2, 0.0]}, "normalization.std"),
        ({"mean": [0.5, float("nan")], "std": [0.2, 0.2]}, "normalization.mean"),
        ({"mean": "ab", "std": [1, 1]}, "expected"),
        (7, "expected"),
    ],
)
def test_statistics_that_are_none_are_refused(values, message):
    with pytest.raises(InputError, match=message):
        check_statistics(values, 2)


def test_a_recipe_may_ask_for_training_statistics_and_a_model_may_not():
    check_normalization("training", 3)
    with pytest.raises(InputError, match=r"zscore.*training"):
        check_normalization("zscore", 3)
    with pytest.raises(InputError, match="found by train"):
        create("small-cnn", normalization="training", **SMALL)
