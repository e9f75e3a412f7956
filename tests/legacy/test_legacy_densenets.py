"""Old DenseNet121 files load exactly: compared layer by layer, and with the same network written in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from keras2_files import TINY, Random, config_of, densenet_layers, keras2_file, stacks_of
from numpy_networks import densenet_in_numpy

import covidcxnet
from covidcxnet.legacy import CHEXNET_LABELS, LEGACY
from enhancement.errors import InputError
from weights.format import save_weights


@pytest.mark.parametrize("blocks", [(2, 1), (6, 12, 24, 16)])
def test_every_layer_of_a_densenet_gets_the_arrays_of_its_old_name(tmp_path, blocks):
    layers = densenet_layers(blocks, 4 if len(blocks) == 2 else 32)
    model = covidcxnet.load_legacy(keras2_file(tmp_path / "old.h5", layers), "chexnet", size=64).model
    weighted = [(name, arrays) for name, arrays in layers if arrays]
    assert len([layer for layer in model.layers if layer.weights]) == len(weighted)
    for old, arrays in weighted:
        name = {"predictions": "pred"}.get(old, old.replace("/", "_"))
        for found, (_, expected) in zip(model.get_layer(name).get_weights(), arrays, strict=True):
            np.testing.assert_array_equal(found, expected)


def test_chexnet_has_the_published_size(tmp_path):
    path = keras2_file(tmp_path / "old.h5", densenet_layers())
    model = covidcxnet.load_legacy(path, "chexnet").model
    assert model.count_params() == 7_051_854 and model.input_shape == (None, 224, 224, 3)
    assert len([layer for layer in model.layers if layer.weights]) == 242


@pytest.mark.parametrize("name", ["chexnet", "covid-cxnet-chexnet"])
def test_both_forms_of_chexnet_predict_what_numpy_does(tmp_path, name):
    layers = densenet_layers(**TINY)
    path = keras2_file(tmp_path / "old.h5", layers)
    classifier = covidcxnet.load_legacy(path, name, size=45)
    proper = name == "chexnet"
    expected = densenet_in_numpy(stacks_of(classifier), layers, proper=proper)
    np.testing.assert_allclose(classifier.predict_stacks(stacks_of(classifier)), expected, atol=1e-5)
    assert classifier.classes == CHEXNET_LABELS
    assert ("relu" in [layer.name for layer in classifier.model.layers]) is not proper
    assert covidcxnet.load_legacy(path, name).input.size == (224 if proper else 320)


def test_a_14_class_densenet_without_a_description_must_be_named(tmp_path):
    path = keras2_file(tmp_path / "old.h5", densenet_layers(**TINY))
    with pytest.raises(InputError, match=r"chexnet, covid-cxnet-chexnet"):
        covidcxnet.load_legacy(path)
    with pytest.raises(InputError, match="chexnet"):
        covidcxnet.load_model(path)


@pytest.mark.parametrize("relu", [False, True])
def test_a_whole_model_file_says_itself_which_chexnet_it_is(tmp_path, relu):
    layers = densenet_layers(**TINY)
    config = config_of(layers, 40, 3, relu=relu, output="softmax" if relu else "sigmoid")
    path = keras2_file(tmp_path / "old.weights", layers, config=config)
    classifier = covidcxnet.load_model(path)
    assert classifier.metadata["legacy"]["architecture"] == ("covid-cxnet-chexnet" if relu else "chexnet")
    assert classifier.input.size == 40
    expected = densenet_in_numpy(stacks_of(classifier), layers, proper=not relu)
    np.testing.assert_allclose(classifier.predict_stacks(stacks_of(classifier)), expected, atol=1e-5)


def test_a_14_class_head_is_loaded_then_replaced_where_labels_ask_for_another(tmp_path):
    layers = densenet_layers(**TINY)
    path = keras2_file(tmp_path / "old.h5", layers)
    classifier = covidcxnet.load_legacy(path, "covid-cxnet-chexnet", size=32, classes=("normal", "covid19"))
    names = [layer.name for layer in classifier.model.layers]
    assert names[-5:] == ["relu", "pooling_layer", "fc", "dropout", "pred"]
    assert classifier.predict_stacks(stacks_of(classifier)).shape == (2, 2)
    np.testing.assert_array_equal(classifier.model.get_layer("bn").get_weights()[0], dict(dict(layers)["bn"])["gamma"])
    assert "random" in classifier.metadata["legacy"]["head"]
    damaged = [*layers[:-1], ("predictions", [layers[-1][1][0], ("bias", np.zeros(13, "float32"))])]
    with pytest.raises(InputError, match="predictions"):
        covidcxnet.load_legacy(keras2_file(path, damaged), "chexnet", classes=("normal", "covid19"))


@pytest.mark.parametrize(("outputs", "classes"), [(1, 2), (3, 3)])
def test_a_fine_tuned_covid_cxnet_needs_no_name(tmp_path, outputs, classes):
    path = keras2_file(tmp_path / "old.h5", densenet_layers(**TINY, heads=((10, "fc"), (outputs, "pred"))))
    classifier = covidcxnet.load_legacy(path)
    assert len(classifier.classes) == classes and classifier.input == LEGACY["covid-cxnet"].input
    assert classifier.model.get_layer("pred").activation.__name__ == ("sigmoid" if outputs == 1 else "softmax")


def test_a_backbone_without_a_head_gets_one_when_labels_are_given(tmp_path):
    path = keras2_file(tmp_path / "old.h5", densenet_layers(**TINY, heads=()))
    with pytest.raises(InputError, match="classes"):
        covidcxnet.load_legacy(path, "imagenet")
    classifier = covidcxnet.load_legacy(path, "imagenet", classes=("a", "b", "c"))
    assert classifier.model.output_shape == (None, 3)


def test_hidden_activations_that_are_not_known_here_are_refused(tmp_path):
    layers = densenet_layers(**TINY, heads=((10, "fc1"), (1, "out")))
    config = config_of(layers, 32, 3, relu=True)
    config["config"]["layers"][-2]["config"]["activation"] = "sigmoid"
    with pytest.raises(InputError, match="fc1"):
        covidcxnet.load_legacy(keras2_file(tmp_path / "old.h5", layers, config=config))


@pytest.mark.parametrize("epsilon", [0.001, 10**400])
def test_another_epsilon_of_the_batch_norm_is_refused(tmp_path, epsilon):
    layers = densenet_layers(**TINY)
    config = config_of(layers, 32, 3)
    for layer in config["config"]["layers"]:
        if layer["class_name"] == "BatchNormalization":
            layer["config"]["epsilon"] = epsilon
    with pytest.raises(InputError, match="conv1/bn has epsilon"):
        covidcxnet.load_legacy(keras2_file(tmp_path / "old.h5", layers, config=config))


def test_a_legacy_model_saved_as_ours_loads_and_predicts_the_same(tmp_path):
    classifier = covidcxnet.load_legacy(
        keras2_file(tmp_path / "old.h5", densenet_layers(**TINY)), "chexnet", size=33, input={"channels": ["raw"] * 3}
    )
    path = save_weights(classifier.model, tmp_path / "new.weights.h5", classifier.metadata)
    again = covidcxnet.load_model(path)
    assert again.input == classifier.input and again.classes == classifier.classes
    expected = classifier.predict_stacks(stacks_of(classifier))
    np.testing.assert_allclose(again.predict_stacks(stacks_of(classifier)), expected, atol=1e-6)


def test_arrays_of_a_layer_are_taken_by_name_where_a_file_lists_them_in_another_order(tmp_path):
    layers = densenet_layers(**TINY)
    turned = [(name, arrays[::-1]) for name, arrays in layers]
    one, two = (
        covidcxnet.load_legacy(keras2_file(tmp_path / f"{n}.h5", which, endings=bool(n)), "chexnet", size=32)
        for n, which in enumerate((layers, turned))
    )
    for a, b in zip(one.model.get_weights(), two.model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("change", ["layer missing", "layer more", "shape", "stem", "not finite", "no weights"])
def test_a_densenet_that_does_not_fit_is_refused(tmp_path, change):
    layers = densenet_layers(**TINY)
    if change == "layer missing":
        layers = [layer for layer in layers if layer[0] != "conv2_block2_1_bn"]
    if change == "layer more":
        layers.insert(8, ("more", Random().normalisation(8)))
    if change == "shape":
        layers = [(n, a if n != "conv3_block1_2_conv" else [Random().kernel(5, 5, 16, 4)]) for n, a in layers]
    if change == "stem":
        layers = [(n, a if n != "conv1/conv" else [Random().kernel(7, 7, 3, 10_000)]) for n, a in layers]
    if change == "not finite":
        layers[3][1][0][1][0] = np.nan
    if change == "no weights":
        layers = [(name, []) for name, _ in layers]
    with pytest.raises(InputError, match=r"old\.h5"):
        covidcxnet.load_legacy(keras2_file(tmp_path / "old.h5", layers), "chexnet")
