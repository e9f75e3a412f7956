"""The registry: published layer and parameter counts, scaling inside the graph, bad input refused."""

import keras
import numpy as np
import pytest

from covidcxnet.models import MODELS, create, feature_layer
from covidcxnet.models.scaling import RADIOGRAPH_MEAN, RADIOGRAPH_STD, check_normalization, check_statistics
from enhancement.errors import InputError

HIERARCHICAL = "covid-cxnet-hierarchical"
TINY = {
    "covid-cxnet": {"size": 32, "blocks": (1, 1), "growth": 4},
    "base-cnn": {"size": 65, "filters": 4},
    "small-cnn": {"size": 32, "filters": (4, 4)},
}


@pytest.mark.parametrize(
    ("name", "options", "parameters"),
    [
        ("base-cnn", {}, 76_675),
        ("base-cnn", {"channels": 3}, 78_275),
        ("base-cnn", {"channels": 3, "size": 300}, 60_035),
        ("small-cnn", {}, 558_849),
    ],
)
def test_published_parameter_counts_are_met_exactly(name, options, parameters):
    model = create(name, **options)
    assert model.count_params() == parameters
    if name == "small-cnn":
        assert sum(int(np.prod(v.shape)) for v in model.trainable_variables) == 557_761


@pytest.mark.parametrize("name", sorted(TINY))
@pytest.mark.parametrize("classes", [("normal", "covid19"), ("normal", "pneumonia", "covid19")])
def test_output_is_one_sigmoid_for_two_classes_and_a_softmax_for_more_behind_a_feature_map(name, classes):
    model = create(name, channels=2, classes=classes, **TINY[name])
    assert feature_layer(model) == MODELS[name].feature_layer
    assert len(model.get_layer(feature_layer(model)).output.shape) == 4
    stack = np.random.default_rng(0).integers(0, 256, (2, *model.input_shape[1:]), dtype=np.uint8)
    out = np.asarray(model(stack))
    assert out.shape == (2, 1 if len(classes) == 2 else 3)
    assert ((out >= 0) & (out <= 1)).all()
    if len(classes) > 2:
        np.testing.assert_allclose(out.sum(axis=1), 1, rtol=1e-5)


def test_a_densenet_without_its_final_relu_has_its_feature_map_in_the_last_batch_norm():
    plain = create("covid-cxnet", normalization="imagenet", **TINY["covid-cxnet"])
    model = create("covid-cxnet", final_relu=False, momentum=0.9, **TINY["covid-cxnet"])
    assert len(plain.layers) - len(model.layers) == 1, "layers do not depend on normalization"
    assert feature_layer(model) == "bn" and "relu" not in [layer.name for layer in model.layers]
    momenta = {layer.momentum for layer in model.layers if type(layer).__name__ == "BatchNormalization"}
    assert momenta == {0.9}, "an option too"


def test_feature_layer_of_a_foreign_model_is_its_last_4d_output():
    x = keras.Input((8, 8, 1))
    y = keras.layers.Conv2D(2, 3, name="only")(x)
    assert feature_layer(keras.Model(x, keras.layers.Flatten()(y))) == "only"


def test_outputs_stay_float32_under_mixed_precision():
    from covidcxnet.backend import precision

    before = keras.config.dtype_policy().name
    with precision("mixed_bfloat16"):
        model = create("small-cnn", **TINY["small-cnn"])
    assert keras.config.dtype_policy().name == before
    out = model(np.zeros((1, 32, 32, 3), np.uint8))
    assert keras.backend.standardize_dtype(out.dtype) == "float32"
    assert model.get_layer("conv1").compute_dtype == "bfloat16"


@pytest.mark.parametrize(
    ("name", "options", "word"),
    [
        ("base-cnn", {"filters": [99]}, r"options: base-cnn cannot be built with filters \[99\]"),
        ("resnet", {}, "did you mean resnet34"),
        ("densenet121", {}, "covid-cxnet is DenseNet121"),
        ("small-cnn", {"head": "round"}, "pneumonia"),
        ("small-cnn", {"dropout": (0.5, 0.5, 0.5)}, "2 expected"),
        ("small-cnn", {"dropout": "much"}, "dropout"),
        ("efficientnet-b1", {"normalization": "unit"}, "scales inside"),
        ("covid-cxnet", {"size": 31}, "32"),
        ("base-cnn", {"size": 64}, "65"),
        ("small-cnn", {"size": 93}, "94"),
        ("small-cnn", {"depth": 3}, "depth"),
        ("small-cnn", {"filters": ()}, "filters"),
        ("small-cnn", {"block_dropout": 1}, "block_dropout"),
        ("small-cnn", {"hidden": (0,)}, "hidden"),
        ("small-cnn", {"dropout": 1.5}, "dropout"),
        ("small-cnn", {"hidden_activation": "tanh"}, "hidden_activation"),
        ("small-cnn", {"pool": "min"}, "pool"),
        ("small-cnn", {"normalization": "zscore"}, "normalization"),
        ("small-cnn", {"normalization": "imagenet", "channels": 1}, "3 channels"),
        ("small-cnn", {"classes": ("a",)}, "classes"),
        ("small-cnn", {"classes": ("a", "a")}, "classes"),
        ("small-cnn", {"size": "big"}, "size"),
        ("covid-cxnet", {"blocks": (0, 1)}, "blocks"),
        ("small-cnn", {"activation": "tanh"}, "activation"),
        *((HIERARCHICAL, {"classes": names, "blocks": (1, 1)}, "three classes") for names in (("a", "b"), "abcd")),
        (HIERARCHICAL, {"multilabel": True}, "multilabel"),
        *(("logistic-regression", {"C": strength}, "C") for strength in (0, "x")),
        ("logistic-regression", {"max_iter": 0}, "max_iter"),
        ("logistic-regression", {"hidden": (3,)}, "hidden"),
    ],
)
def test_bad_input_is_refused_by_name(name, options, word):
    with pytest.raises(InputError, match=word):
        create(name, **options)


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
    model = create("small-cnn", channels=planes, normalization=normalization, **SMALL)
    probe = keras.Model(model.input, model.get_layer("conv1").input)
    x = stacks(planes)
    np.testing.assert_allclose(probe(x), expected(x.astype("float64")), rtol=1e-4, atol=1e-4)


def test_a_network_that_scales_by_itself_sees_other_statistics_as_it_would_its_own():
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
def test_statistics_that_are_none_are_refused_and_those_of_training_images_are_for_recipes(values, message):
    with pytest.raises(InputError, match=message):
        check_statistics(values, 2)
    check_normalization("training", 3)
    with pytest.raises(InputError, match=r"zscore.*training"):
        check_normalization("zscore", 3)
    with pytest.raises(InputError, match="found by train"):
        create("small-cnn", normalization="training", **SMALL)
