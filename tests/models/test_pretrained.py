"""`load_model`: a weights file needs nothing else; damaged or foreign files give an error and no model."""

import pickle

import numpy as np
import pytest

from covidcxnet import pretrained
from covidcxnet.models import create
from covidcxnet.settings import InputSettings
from enhancement.errors import InputError
from weights.format import save_weights

OPTIONS = {"size": 32, "channels": 2, "normalization": "symmetric", "filters": [4, 4], "hidden": [4]}
METADATA = {
    "kind": "classifier",
    "architecture": {"name": "small-cnn", "options": OPTIONS},
    "classes": ["normal", "covid19"],
    "input": InputSettings(size=32, channels=("raw", "clahe")).to_dict(),
    "segmenter": {},
    "training": {},
}


@pytest.fixture(scope="module")
def made():
    return create("small-cnn", classes=("normal", "covid19"), **OPTIONS)


@pytest.fixture
def path(made, tmp_path):
    return save_weights(made, tmp_path / "m.weights.h5", METADATA)


def stacks():
    return np.random.default_rng(0).integers(0, 256, (3, 32, 32, 2), dtype=np.uint8)


def test_a_loaded_model_predicts_what_the_saved_one_did(made, path):
    classifier = pretrained.load_model(path)
    p = np.asarray(made(stacks()))[:, 0]
    np.testing.assert_allclose(classifier.predict_stacks(stacks()), np.stack([1 - p, p], axis=1), atol=1e-6)
    assert classifier.classes == ("normal", "covid19") and classifier.input.channels == ("raw", "clahe")
    for name, message in (("no-such-model", "no-such-model"), ("folder/none.weights.h5", "no such weights file")):
        with pytest.raises(InputError, match=message):
            pretrained.load_model(name)


def test_another_process_gets_the_settings_and_loads_the_same_file(made, path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    classifier = pretrained.load_model(path.name, engine="keras")
    segmenter = classifier.segmenter.following("lung_incl_retrocardiac")
    sent = pickle.dumps(classifier.with_segmenter(segmenter))
    monkeypatch.chdir("/")
    again = pickle.loads(sent)
    assert len(sent) < 10_000, "no weights travel"
    np.testing.assert_array_equal(again.predict_stacks(stacks()), classifier.predict_stacks(stacks()))
    assert again.segmenter.convention == segmenter.convention and again.segmenter.sha256 == segmenter.sha256
    save_weights(made, path, {**METADATA, "training": {"epochs": 1}})
    with pytest.raises(InputError, match="expected; another file"):
        pickle.loads(sent)
    classifier.origin = None
    with pytest.raises(InputError, match="not loaded from a file"):
        pickle.dumps(classifier)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"kind": "segmenter"}, "segmenter"),
        ({"architecture": {"name": "vgg", "options": {}}}, "vgg"),
        ({"architecture": {"name": "small-cnn", "options": {**OPTIONS, "filters": [8, 4]}}}, "fit"),
        ({"classes": ["a", "b", "c"]}, "fit"),
        ({"architecture": {"name": "small-cnn"}}, "options"),
        ({"classes": None}, "describe"),
    ],
)
def test_metadata_that_do_not_describe_the_weights_are_refused(made, tmp_path, change, word):
    path = save_weights(made, tmp_path / "m.weights.h5", METADATA | change)
    with pytest.raises(InputError, match=word) as error:
        pretrained.load_model(path)
    assert "m.weights.h5" in str(error.value)


@pytest.mark.parametrize("options", [{"size": 224}, {"size": 224, "head": "linear", "hidden": [4096, 4096]}])
def test_a_wide_head_is_refused_before_memory_is_taken_for_it(made, tmp_path, monkeypatch, options):
    changed = METADATA | {"architecture": {"name": "alexnet", "options": options}}
    path = save_weights(made, tmp_path / "m.weights.h5", changed)
    monkeypatch.setattr("covidcxnet.models.create", lambda *_, **__: pytest.fail("a network was built"))
    with pytest.raises(InputError, match="hidden"):
        pretrained.load_model(path)
