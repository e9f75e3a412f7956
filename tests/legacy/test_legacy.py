"""Old files load exactly: compared with the same networks written in NumPy; or they are refused."""

from __future__ import annotations

import dataclasses

import h5py
import numpy as np
import pytest
from keras2_files import TINY, Random, base_layers, config_of, densenet_layers, keras2_file, stacks_of, unet_layers
from numpy_networks import base_cnn_in_numpy, densenet_in_numpy, unet_in_numpy

import covidcxnet
from covidcxnet.legacy import CHEXNET_LABELS, LEGACY
from covidcxnet.settings import InputSettings
from enhancement.errors import InputError
from segmentation.model import legacy_metadata
from segmentation.segmenter import LungSegmenter
from weights import legacy_h5, manifest, open_weights
from weights.format import save_weights


@pytest.fixture
def densenet(tmp_path):
    """A small CheXNet of weights alone: layers and file."""
    layers = densenet_layers(**TINY)
    return layers, keras2_file(tmp_path / "old.h5", layers)


def test_a_base_cnn_of_any_size_predicts_what_numpy_does_and_again_when_it_is_saved_as_ours(tmp_path):
    layers = base_layers(101, 3)
    path = keras2_file(tmp_path / "old.hdf5", layers, config=config_of(layers, 101, 3))
    classifier = covidcxnet.load_legacy(path)
    assert classifier.input.size == 101 and len(classifier.input.channels) == 3
    expected = base_cnn_in_numpy(stacks_of(classifier), layers)
    new = save_weights(classifier.model, tmp_path / "new.weights.h5", classifier.metadata)
    again = covidcxnet.load_model(new)
    assert again.input == classifier.input and again.classes == classifier.classes
    for loaded in (classifier, again):
        np.testing.assert_allclose(loaded.predict_stacks(stacks_of(loaded))[:, 1:], expected, atol=1e-5)
    with pytest.raises(InputError, match="load_model"):
        covidcxnet.load_legacy(new)


def test_a_base_cnn_of_weights_alone_has_a_published_size_or_needs_one_and_two_channels_need_names(
    tmp_path, monkeypatch
):
    read, files = legacy_h5.legacy_layers, []
    monkeypatch.setattr("weights.format.legacy_layers", lambda file, path: files.append(path) or read(file, path))
    old = keras2_file(tmp_path / "a.weights.h5", base_layers(400))
    assert covidcxnet.load_legacy(old).input.size == 400
    assert covidcxnet.load_model(old).input.size == 400 and files == [old, old], (
        "content and not the ending tells an old file from ours"
    )
    assert covidcxnet.load_legacy(keras2_file(tmp_path / "b.h5", base_layers(300, 3))).input.size == 300
    path = keras2_file(tmp_path / "c.h5", base_layers(200))
    with pytest.raises(InputError, match=r"193 to 224 pixels"):
        covidcxnet.load_legacy(path)
    assert covidcxnet.load_legacy(path, size=200).model.input_shape == (None, 200, 200, 1)
    with pytest.raises(InputError, match=r"size 225 .* 193 to 224 pixels"):
        covidcxnet.load_legacy(path, size=225)
    path = keras2_file(tmp_path / "d.h5", base_layers(65, 2))
    with pytest.raises(InputError, match="2 channels"):
        covidcxnet.load_legacy(path, size=65)
    channels = ("raw", "clahe")
    assert covidcxnet.load_legacy(path, size=65, input={"channels": list(channels)}).input.channels == channels


def test_a_softmax_of_two_is_the_sigmoid_of_their_difference(tmp_path):
    layers = base_layers(65, 1, outputs=2)
    path = keras2_file(tmp_path / "old.hdf5", layers, config=config_of(layers, 65, 1, output="softmax"))
    with pytest.raises(InputError, match="2 outputs in its head and no labels known"):
        covidcxnet.load_legacy(path)
    classifier = covidcxnet.load_legacy(path, classes=["normal", "tb"])
    name, ((_, kernel), (_, bias)) = layers[-1]
    single = [*layers[:-1], (name, [("kernel", kernel[:, 1:] - kernel[:, :1]), ("bias", bias[1:] - bias[:1])])]
    rows = classifier.predict_stacks(stacks_of(classifier))
    np.testing.assert_allclose(rows[:, 1:], base_cnn_in_numpy(stacks_of(classifier), single), atol=1e-5)
    undescribed = keras2_file(tmp_path / "undescribed.hdf5", layers)
    with pytest.raises(InputError, match="nothing in the file says that they are a softmax"):
        covidcxnet.load_legacy(undescribed, size=65, classes=["normal", "tb"])


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("conv_layer3", {"activation": "tanh"}, r"conv_layer3 has activation 'tanh'; only 'relu'"),
        ("conv_layer1", {"strides": [1, 1]}, r"conv_layer1 has strides \[1, 1\]"),
        ("fc_layer1", {"activation": "tanh"}, r"fc_layer1 has activation 'tanh'"),
        ("output_layer", {"activation": "linear"}, r"output_layer has activation 'linear'; only sigmoid or softmax"),
        ("in", {"batch_input_shape": [None, 4096, 4096, 1]}, r"size 4096 .* 65 to 96 pixels"),
        ("conv1/bn", {"epsilon": 10**400}, "conv1/bn has epsilon"),
    ],
)
def test_a_description_that_the_arrays_or_the_known_network_contradict_is_refused(tmp_path, name, changes, message):
    layers, size, channels = base_layers(65, 1), 65, 1
    if name == "conv1/bn":
        layers, size, channels = densenet_layers(**TINY), 32, 3
    config = config_of(layers, size, channels)
    (described,) = [layer for layer in config["config"]["layers"] if layer["config"]["name"] == name]
    described["config"].update(changes)
    path = keras2_file(tmp_path / "old.hdf5", layers, config=config)
    with pytest.raises(InputError, match=message) as error:
        covidcxnet.load_legacy(path, "chexnet" if name == "conv1/bn" else None)
    assert str(error.value).startswith(str(path))


def test_every_layer_of_the_published_densenet_gets_the_arrays_of_its_old_name(tmp_path):
    """Also where a file lists the arrays of a layer in another order."""
    layers = densenet_layers()
    listed = [(name, arrays[::-1]) for name, arrays in layers]
    model = covidcxnet.load_legacy(keras2_file(tmp_path / "old.h5", listed, endings=False), "chexnet").model
    weighted = [(name, arrays) for name, arrays in layers if arrays]
    assert len([layer for layer in model.layers if layer.weights]) == len(weighted)
    for old, arrays in weighted:
        name = {"predictions": "pred"}.get(old, old.replace("/", "_"))
        for values, (_, expected) in zip(model.get_layer(name).get_weights(), arrays, strict=True):
            np.testing.assert_array_equal(values, expected)
    assert model.count_params() == 7_051_854 and model.input_shape == (None, 224, 224, 3) and len(weighted) == 242


@pytest.mark.parametrize("name", ["chexnet", "covid-cxnet-chexnet"])
def test_both_forms_of_chexnet_predict_what_numpy_does_and_are_never_guessed_from_14_outputs(tmp_path, densenet, name):
    layers, path = densenet
    proper = name == "chexnet"
    config = config_of(layers, 45, 3, relu=not proper, output="sigmoid" if proper else "softmax")
    whole = keras2_file(tmp_path / "whole.weights", layers, config=config)
    with pytest.raises(InputError, match=r"which classes its outputs are and how its input is scaled.*architecture"):
        covidcxnet.load_model(whole)
    for classifier in (covidcxnet.load_legacy(path, name, size=45), covidcxnet.load_legacy(whole, name)):
        expected = densenet_in_numpy(stacks_of(classifier), layers, proper=proper)
        np.testing.assert_allclose(classifier.predict_stacks(stacks_of(classifier)), expected, atol=1e-5)
        assert classifier.classes == CHEXNET_LABELS and classifier.metadata["legacy"]["architecture"] == name
        assert ("relu" in [layer.name for layer in classifier.model.layers]) is not proper


def test_without_a_description_a_name_is_needed_and_heads_are_replaced_by_labels(tmp_path, densenet):
    layers, path = densenet
    for load in (covidcxnet.load_legacy, covidcxnet.load_model):
        with pytest.raises(InputError, match=r"chexnet, covid-cxnet-chexnet"):
            load(path)
    headless = keras2_file(tmp_path / "headless.h5", densenet_layers(**TINY, heads=()))
    with pytest.raises(InputError, match="classes"):
        covidcxnet.load_legacy(headless, "imagenet")
    assert covidcxnet.load_legacy(headless, "imagenet", classes=("a", "b", "c")).model.output_shape == (None, 3)
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
    layers = densenet_layers(**TINY, heads=((10, "fc"), (outputs, "pred")))
    classifier = covidcxnet.load_legacy(keras2_file(tmp_path / "old.h5", layers))
    assert len(classifier.classes) == classes and classifier.input == LEGACY["covid-cxnet"].input
    assert classifier.model.get_layer("pred").activation.__name__ == ("sigmoid" if outputs == 1 else "softmax")
    config = config_of(layers, 32, 3, relu=True)
    config["config"]["layers"][-2]["config"]["activation"] = "sigmoid"
    with pytest.raises(InputError, match="fc has activation 'sigmoid'"):
        covidcxnet.load_legacy(keras2_file(tmp_path / "whole.h5", layers, config=config))


@pytest.mark.parametrize(
    "change",
    [
        lambda layers: [layer for layer in layers if layer[0] != "conv2_block2_1_bn"],
        lambda layers: [*layers[:8], ("more", Random().normalisation(8)), *layers[8:]],
        lambda layers: [(n, a if n != "conv3_block1_2_conv" else [Random().kernel(5, 5, 16, 4)]) for n, a in layers],
        lambda layers: [(n, a if n != "conv1/conv" else [Random().kernel(7, 7, 3, 10_000)]) for n, a in layers],
        lambda layers: [(n, a if n != "conv1/bn" else [(k, v * np.nan) for k, v in a]) for n, a in layers],
        lambda layers: [(name, []) for name, _ in layers],
    ],
    ids=["layer missing", "layer more", "shape", "stem", "not finite", "no weights"],
)
def test_a_densenet_that_does_not_fit_is_refused(densenet, change):
    layers, path = densenet
    with pytest.raises(InputError, match=r"old\.h5"):
        covidcxnet.load_legacy(keras2_file(path, change(layers)), "chexnet")


def test_what_is_no_old_file_is_refused(tmp_path, densenet):
    for path, message in ((tmp_path / "none.h5", r"none\.h5: no such"), (tmp_path, "no such"), ("no-name", "no-name")):
        with pytest.raises(InputError, match=message):
            covidcxnet.load_legacy(path)
    path = densenet[1]
    for architecture in ("base-cnn", "unet", "vgg"):
        with pytest.raises(InputError, match=r"old\.h5"):
            covidcxnet.load_legacy(path, architecture)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(InputError, match=r"old\.h5: not an HDF5 weights file, or a damaged one$"):
        covidcxnet.load_legacy(path)


def test_a_name_loads_the_verified_file_with_its_settings_and_the_manifest_agrees_with_the_code(tmp_path, monkeypatch):
    for name in ("chexnet", "covid-cxnet-chexnet", "imagenet"):
        entry, known = manifest.read()[name], LEGACY[name]
        assert InputSettings.from_dict(entry.input) == known.input
        options = entry.architecture["options"]
        assert options["normalization"] == known.normalization and options["final_relu"] == known.options["final_relu"]
        assert options.get("activation") == known.options["activation"]
        assert entry.labels == (() if name == "imagenet" else CHEXNET_LABELS)
    name = "covid-cxnet-chexnet"
    monkeypatch.setenv("COVIDCXNET_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()  # a folder of that name in the working directory does not matter
    (tmp_path / "weights").mkdir()
    entries = manifest.read()
    path = keras2_file(tmp_path / "weights" / entries[name].file, densenet_layers(**TINY))
    entries = {**entries, name: dataclasses.replace(entries[name], git_blob=manifest.git_blob_id(path))}
    monkeypatch.setattr(manifest, "PATH", manifest.write(entries, tmp_path / "m.json"))
    for classifier in (covidcxnet.load_model(name), covidcxnet.load_legacy(name), covidcxnet.load_legacy(path)):
        assert classifier.input == LEGACY[name].input and classifier.classes == CHEXNET_LABELS
        assert classifier.input.size == 320


@pytest.mark.real
def test_a_genuine_base_cnn_predicts_on_real_radiographs_what_numpy_does(real_data):
    path = real_data.parent / "legacy" / "covid-cxnet-base-v1.0.hdf5"
    if not path.is_file():
        pytest.skip(f"no {path.name} beside the real radiographs")
    from covidcxnet.preparation.pipeline import prepare_files

    files = sorted((real_data / "classification").rglob("*.*g"))[::900][:2]
    assert files
    classifier = covidcxnet.load_legacy(path)
    assert classifier.model.count_params() == 76_675
    with h5py.File(path) as file:
        group = file["model_weights"]
        names = [name.decode() for name in group.attrs["layer_names"]]
        layers = [(n, [(w, group[n][w][()]) for w in group[n].attrs["weight_names"]]) for n in names]
    stacks = np.stack([outcome.prepared.stack for outcome in prepare_files(files, classifier.input)])
    chances = [prediction.probabilities["covid19"] for prediction in classifier.predict(files)]
    np.testing.assert_allclose(chances, base_cnn_in_numpy(stacks, layers)[:, 0], atol=1e-5)


@pytest.mark.parametrize("imlab", [False, True])
def test_an_old_unet_predicts_what_numpy_does(tmp_path, imlab):
    layers = unet_layers(imlab=imlab)
    segmenter = covidcxnet.load_legacy(keras2_file(tmp_path / "old.hdf5", layers, whole=imlab), size=32)
    assert isinstance(segmenter, LungSegmenter)
    x = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 1), dtype=np.uint8)
    scaled = (x / 255 - 0.5) * np.sqrt(12) if imlab else (x - 127.0) / 127.0
    expected = unet_in_numpy(scaled, layers, imlab=imlab)
    np.testing.assert_allclose(np.asarray(segmenter.model(x)), expected, atol=1e-5)
    assert segmenter.predict(x[0, ..., 0])[0].mask.shape == (32, 32)


def test_a_segmenter_takes_an_old_file_by_itself_as_the_manifest_describes_it(tmp_path):
    segmenter = LungSegmenter(keras2_file(tmp_path / "old.hdf5", unet_layers()))
    assert segmenter.input.size == 512 and segmenter.conventions == ("lung_field",)
    assert len(segmenter.model.get_weights()) == 46
    published = manifest.read()["covid-cxnet-unet"].metadata()
    published["architecture"]["options"]["width"] = 2
    assert legacy_metadata(open_weights(tmp_path / "old.hdf5")) == published
    # what is wrong with an argument is not blamed on the file
    for changes in ({"size": 100}, {"size": "32"}, {"input": {"colour": 1}}):
        with pytest.raises(InputError, match=r"size|colour") as error:
            covidcxnet.load_legacy(tmp_path / "old.hdf5", **changes)
        assert str(error.value).count("old.hdf5") == 1 and "wrong type" not in str(error.value)
    with pytest.raises(InputError, match="'chexnet' given; its arrays are those of a lung U-Net"):
        covidcxnet.load_legacy(tmp_path / "old.hdf5", "chexnet")


@pytest.mark.parametrize(
    ("at", "shape", "message"),
    [
        (None, None, r"old\.h5"),
        (5, (3, 4, 5), r"old\.h5"),
        (1, (3, 1, 40_000), r"old\.h5"),
        (1, (3, 3, 2), "3 channels"),
    ],
    ids=["a layer less", "another width", "a forged width", "for colour"],
)
def test_an_old_unet_that_does_not_fit_is_refused(tmp_path, at, shape, message):
    layers = unet_layers()
    if at is None:
        layers.pop()
    else:
        layers[at] = Random().convolution(layers[at][0], *shape)
    with pytest.raises(InputError, match=message):
        covidcxnet.load_legacy(keras2_file(tmp_path / "old.h5", layers))
