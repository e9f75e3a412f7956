"""The registry: published layer and parameter counts, scaling inside the graph, bad input refused."""

import numpy as np
import pytest

from covidcxnet.models import MODELS, create, feature_layer
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


def test_layers_do_not_depend_on_normalization_and_a_third_class_adds_its_unit():
    plain, *others = (
        create("covid-cxnet", normalization=n, **TINY["covid-cxnet"]) for n in ("unit", "none", "imagenet")
    )
    assert {len(model.layers) for model in others} == {len(plain.layers)}
    three = create("covid-cxnet", classes=("a", "b", "c"), **TINY["covid-cxnet"])
    assert three.count_params() - plain.count_params() == 22


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
    model = create("covid-cxnet", final_relu=False, momentum=0.9, **TINY["covid-cxnet"])
    assert feature_layer(model) == "bn" and "relu" not in [layer.name for layer in model.layers]
    momenta = {layer.momentum for layer in model.layers if type(layer).__name__ == "BatchNormalization"}
    assert momenta == {0.9}, "an option too"


def test_feature_layer_of_a_foreign_model_is_its_last_4d_output():
    import keras

    x = keras.Input((8, 8, 1))
    y = keras.layers.Conv2D(2, 3, name="only")(x)
    assert feature_layer(keras.Model(x, keras.layers.Flatten()(y))) == "only"


def test_a_model_survives_its_config_and_its_weights_file(tmp_path):
    import keras

    model = create("small-cnn", normalization="imagenet", **TINY["small-cnn"])
    twin = keras.Model.from_config(model.get_config())
    model.save_weights(tmp_path / "m.weights.h5")
    twin.load_weights(tmp_path / "m.weights.h5")
    stack = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    np.testing.assert_array_equal(np.asarray(model(stack)), np.asarray(twin(stack)))


def test_outputs_stay_float32_under_mixed_precision():
    import keras

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
        ("resnet", {}, "covid-cxnet"),
        ("small-cnn", {"head": "round"}, "pneumonia"),
        ("small-cnn", {"dropout": (0.5, 0.5, 0.5)}, "2 expected"),
        ("small-cnn", {"dropout": "much"}, "dropout"),
        ("small-cnn", {"normalization": "caffe", "channels": 1}, "3 channels"),
        ("efficientnet-b1", {"normalization": "unit"}, "scales inside"),
        ("covid-cxnet", {"size": 31}, "32"),
        ("base-cnn", {"size": 64}, "65"),
        ("small-cnn", {"size": 93}, "94"),
        ("small-cnn", {"depth": 3}, "depth"),
        ("small-cnn", {"filters": ()}, "filters"),
        ("small-cnn", {"block_dropout": 1}, "block_dropout"),
        ("small-cnn", {"hidden": (0,)}, "hidden"),
        ("small-cnn", {"dropout": 1.5}, "dropout"),
        ("small-cnn", {"pool": "min"}, "pool"),
        ("small-cnn", {"normalization": "zscore"}, "normalization"),
        ("small-cnn", {"normalization": "imagenet", "channels": 1}, "3 channels"),
        ("small-cnn", {"classes": ("a",)}, "classes"),
        ("small-cnn", {"classes": ("a", "a")}, "classes"),
        ("small-cnn", {"size": "big"}, "size"),
        ("covid-cxnet", {"blocks": (0, 1)}, "blocks"),
        ("small-cnn", {"activation": "tanh"}, "activation"),
        *((HIERARCHICAL, {"classes": names}, "three classes") for names in (("normal", "covid19"), tuple("abcd"))),
        (HIERARCHICAL, {"multilabel": True}, "multilabel"),
        *(("logistic-regression", {"C": strength}, "C") for strength in (0, "x")),
        ("logistic-regression", {"max_iter": 0}, "max_iter"),
        ("logistic-regression", {"hidden": (3,)}, "hidden"),
    ],
)
def test_bad_input_is_refused_by_name(name, options, word):
    with pytest.raises(InputError, match=word):
        create(name, **options)


def test_the_smallest_allowed_sizes_build():
    assert create("base-cnn", size=65).input_shape[1] == 65 and create("small-cnn", size=94).input_shape[1] == 94
