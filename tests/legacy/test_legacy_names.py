"""Old files by name: manifest and code agree, content tells what a file is, and what is none is refused."""

from __future__ import annotations

import pytest
from keras2_files import TINY, base_layers, densenet_layers, keras2_file, unet_layers

import covidcxnet
from covidcxnet.legacy import CHEXNET_LABELS, LEGACY
from covidcxnet.models import create
from covidcxnet.settings import InputSettings
from enhancement.errors import InputError
from segmentation.model import legacy_metadata
from weights import manifest
from weights.format import save_weights


@pytest.mark.parametrize("name", ["chexnet", "covid-cxnet-chexnet", "imagenet"])
def test_manifest_and_code_agree_on_how_a_classifier_is_built_and_fed(name):
    entry, known = manifest.read()[name], LEGACY[name]
    assert InputSettings.from_dict(entry.input) == known.input
    options = entry.architecture["options"]
    assert options["normalization"] == known.normalization and options["final_relu"] == known.options["final_relu"]
    assert options.get("activation") == known.options["activation"]
    assert entry.labels == (() if name == "imagenet" else CHEXNET_LABELS)


def test_manifest_and_code_agree_on_the_old_unet(tmp_path):
    entry = manifest.read()["covid-cxnet-unet"]
    found = legacy_metadata(keras2_file(tmp_path / "old.h5", unet_layers(width=2)))
    found["architecture"]["options"]["width"] = 32
    assert entry.metadata() == found


@pytest.mark.parametrize("name", ["chexnet", "covid-cxnet-chexnet"])
def test_a_name_loads_the_verified_file_with_its_settings(tmp_path, monkeypatch, name):
    import dataclasses

    monkeypatch.setenv("COVIDCXNET_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()  # a folder of that name in the working directory does not matter
    (tmp_path / "weights").mkdir()
    entries = manifest.read()
    layers = densenet_layers(**TINY)
    path = keras2_file(tmp_path / "weights" / entries[name].file, layers)
    blob = manifest.git_blob_id(path)
    changed = {**entries, name: dataclasses.replace(entries[name], git_blob=blob)}
    monkeypatch.setattr(manifest, "PATH", manifest.write(changed, tmp_path / "m.json"))
    for classifier in (covidcxnet.load_model(name), covidcxnet.load_legacy(name), covidcxnet.load_legacy(path)):
        assert classifier.input == LEGACY[name].input and classifier.classes == CHEXNET_LABELS


def test_our_own_file_is_not_a_legacy_one_and_a_name_that_is_none_is_refused(tmp_path):
    model = create("small-cnn", size=32, filters=(4, 4))
    path = save_weights(model, tmp_path / "m.weights.h5", {"kind": "classifier"})
    with pytest.raises(InputError, match="load_model"):
        covidcxnet.load_legacy(path)
    with pytest.raises(InputError, match="no-such-name"):
        covidcxnet.load_legacy("no-such-name")


def test_the_content_tells_an_old_file_from_ours_and_not_its_ending(tmp_path):
    old = keras2_file(tmp_path / "old.weights.h5", base_layers(400))
    assert covidcxnet.load_model(old).input.size == 400


@pytest.mark.parametrize("architecture", ["base-cnn", "unet", "vgg"])
def test_an_architecture_that_the_arrays_contradict_is_refused(tmp_path, architecture):
    path = keras2_file(tmp_path / "old.h5", densenet_layers(**TINY))
    with pytest.raises(InputError, match=r"old\.h5"):
        covidcxnet.load_legacy(path, architecture)
