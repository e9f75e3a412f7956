"""Old base CNN files load exactly: compared with the same network written in NumPy."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from keras2_files import base_layers, config_of, keras2_file, stacks_of
from numpy_networks import base_cnn_in_numpy

import covidcxnet
from enhancement.errors import InputError


@pytest.mark.parametrize(("size", "channels"), [(65, 1), (96, 1), (101, 3)])
def test_a_base_cnn_of_any_size_predicts_what_numpy_does(tmp_path, size, channels):
    layers = base_layers(size, channels)
    path = keras2_file(tmp_path / "old.hdf5", layers, config=config_of(layers, size, channels))
    classifier = covidcxnet.load_legacy(path)
    assert classifier.input.size == size and len(classifier.input.channels) == channels
    expected = base_cnn_in_numpy(stacks_of(classifier), layers)
    np.testing.assert_allclose(classifier.predict_stacks(stacks_of(classifier))[:, 1:], expected, atol=1e-5)


def test_a_base_cnn_of_weights_alone_has_a_published_size_or_must_be_told(tmp_path):
    assert covidcxnet.load_legacy(keras2_file(tmp_path / "a.h5", base_layers(400))).input.size == 400
    assert covidcxnet.load_legacy(keras2_file(tmp_path / "b.h5", base_layers(300, 3))).input.size == 300
    path = keras2_file(tmp_path / "c.h5", base_layers(200))
    with pytest.raises(InputError, match=r"193 to 224 pixels"):
        covidcxnet.load_legacy(path)
    assert covidcxnet.load_legacy(path, size=200).model.input_shape == (None, 200, 200, 1)
    with pytest.raises(InputError, match=r"size 225 .* 193 to 224 pixels"):
        covidcxnet.load_legacy(path, size=225)


@pytest.mark.parametrize(
    ("layer", "changes", "said"),
    [
        ("conv_layer3", {"activation": "tanh"}, r"conv_layer3 has activation 'tanh'; only 'relu'"),
        ("conv_layer1", {"strides": [1, 1]}, r"conv_layer1 has strides \[1, 1\]"),
        ("fc_layer1", {"activation": "tanh"}, r"fc_layer1 has activation 'tanh'"),
        ("output_layer", {"activation": "linear"}, r"output_layer has activation 'linear'; only sigmoid or softmax"),
    ],
)
def test_a_description_of_other_layers_than_those_known_is_refused(tmp_path, layer, changes, said):
    layers = base_layers(65, 1)
    config = config_of(layers, 65, 1)
    (described,) = [one for one in config["config"]["layers"] if one["config"]["name"] == layer]
    described["config"].update(changes)
    path = keras2_file(tmp_path / "old.hdf5", layers, config=config)
    with pytest.raises(InputError, match=said) as error:
        covidcxnet.load_legacy(path)
    assert str(error.value).startswith(str(path))


def test_a_description_of_a_size_that_the_arrays_contradict_builds_nothing(tmp_path):
    layers = base_layers(65, 1)
    path = keras2_file(tmp_path / "old.hdf5", layers, config=config_of(layers, 4096, 1))
    with pytest.raises(InputError, match=r"size 4096 .* 65 to 96 pixels"):
        covidcxnet.load_legacy(path)


def test_a_softmax_of_two_is_the_sigmoid_of_their_difference(tmp_path):
    layers = base_layers(65, 1, outputs=2)
    path = keras2_file(tmp_path / "old.hdf5", layers, config=config_of(layers, 65, 1, output="softmax"))
    with pytest.raises(InputError, match="2 outputs in its head and no labels known"):
        covidcxnet.load_legacy(path)
    classifier = covidcxnet.load_legacy(path, classes=["normal", "tb"])
    name, ((_, kernel), (_, bias)) = layers[-1]
    one = [*layers[:-1], (name, [("kernel", kernel[:, 1:] - kernel[:, :1]), ("bias", bias[1:] - bias[:1])])]
    found = classifier.predict_stacks(stacks_of(classifier))
    np.testing.assert_allclose(found[:, 1:], base_cnn_in_numpy(stacks_of(classifier), one), atol=1e-5)
    unsaid = keras2_file(tmp_path / "unsaid.hdf5", layers)
    with pytest.raises(InputError, match="nothing in the file says that they are a softmax"):
        covidcxnet.load_legacy(unsaid, size=65, classes=["normal", "tb"])


def test_a_missing_file_and_a_truncated_one_are_called_so(tmp_path):
    with pytest.raises(InputError, match=r"none\.h5: no such"):
        covidcxnet.load_legacy(tmp_path / "none.h5")
    with pytest.raises(InputError, match=r"no such"):
        covidcxnet.load_legacy(tmp_path)
    path = keras2_file(tmp_path / "old.hdf5", base_layers(65))
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(InputError, match=r"old\.hdf5: not an HDF5 weights file, or a damaged one"):
        covidcxnet.load_legacy(path)


def test_two_channels_must_be_said(tmp_path):
    path = keras2_file(tmp_path / "c.h5", base_layers(65, 2))
    with pytest.raises(InputError, match="2 channels"):
        covidcxnet.load_legacy(path, size=65)
    classifier = covidcxnet.load_legacy(path, size=65, input={"channels": ["raw", "clahe"]})
    assert classifier.input.channels == ("raw", "clahe")


@pytest.mark.real
@pytest.mark.parametrize("version", ["v1.0", "v1.2"])
def test_genuine_base_cnns_predict_on_real_radiographs_what_numpy_does(real_data, version):
    path = real_data.parent / "legacy" / f"covid-cxnet-base-{version}.hdf5"
    if not path.is_file():
        pytest.skip(f"no {path.name} beside the real radiographs")
    from covidcxnet.preparation.pipeline import prepare_files

    files = sorted((real_data / "classification").rglob("*.*g"))[::900][:3]
    assert files
    classifier = covidcxnet.load_legacy(path)
    assert classifier.model.count_params() == {"v1.0": 76_675, "v1.2": 78_275}[version]
    with h5py.File(path) as file:
        group = file["model_weights"]
        names = [name.decode() for name in group.attrs["layer_names"]]
        layers = [(n, [(w, group[n][w][()]) for w in group[n].attrs["weight_names"]]) for n in names]
    stacks = np.stack([outcome.prepared.stack for outcome in prepare_files(files, classifier.input)])
    expected = base_cnn_in_numpy(stacks, layers)[:, 0]
    found = [prediction.probabilities["covid19"] for prediction in classifier.predict(files)]
    np.testing.assert_allclose(found, expected, atol=1e-5)
