"""Normalization: by statistics of radiographs or of one's own images, the same again from a weights file's options."""

import json

import numpy as np
import pytest

from covidcxnet.models import create
from covidcxnet.models.scaling import RADIOGRAPH_MEAN, RADIOGRAPH_STD, check_normalization, check_statistics
from enhancement.errors import InputError

SMALL = {"size": 32, "filters": (4, 4)}


def stacks(channels):
    return np.random.default_rng(0).integers(0, 256, (2, 32, 32, channels), dtype=np.uint8)


@pytest.mark.parametrize(
    ("normalization", "planes", "expected"),
    [
        ("unit", 3, lambda x: x / 255),
        ("symmetric", 3, lambda x: (x - 127.5) / 127.5),
        ("none", 3, lambda x: x),
        ("caffe", 3, lambda x: x[..., ::-1] - [103.939, 116.779, 123.68]),
        ("imagenet", 3, lambda x: (x / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]),
        *(("radiograph", planes, lambda x: (x / 255 - RADIOGRAPH_MEAN) / RADIOGRAPH_STD) for planes in (1, 2, 3)),
        ({"mean": [0.2, 0.7], "std": [0.1, 0.3]}, 2, lambda x: (x / 255 - [0.2, 0.7]) / [0.1, 0.3]),
    ],
)
def test_scaling_is_inside_the_graph_by_published_statistics_or_those_of_each_plane(normalization, planes, expected):
    import keras

    model = create("small-cnn", channels=planes, normalization=normalization, **SMALL)
    probe = keras.Model(model.input, model.get_layer("conv1").input)
    x = stacks(planes)
    np.testing.assert_allclose(probe(x), expected(x.astype("float64")), rtol=1e-4, atol=1e-4)


def test_a_model_is_rebuilt_exactly_from_options_that_went_through_json():
    options = {**SMALL, "channels": 2, "normalization": {"mean": [0.2, 0.7], "std": [0.1, 0.3]}}
    one = create("small-cnn", **options)
    other = create("small-cnn", **json.loads(json.dumps(options)))
    other.set_weights(one.get_weights())
    x = stacks(2)
    np.testing.assert_array_equal(one(x), other(x))
    plain = create("small-cnn", **{**options, "normalization": "unit"})
    plain.set_weights(one.get_weights())
    assert not np.allclose(one(x), plain(x))


def test_a_network_that_scales_by_itself_sees_other_statistics_as_it_would_its_own():
    import keras

    x = stacks(3)
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
