"""The maintainers' script: half-precision copies, and how our own files are entered in the manifest."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import covidcxnet
from enhancement.errors import InputError
from segmentation.model import unet
from weights import manifest
from weights.format import load_weights, read_metadata, save_weights


def test_a_halved_file_is_smaller_and_predicts_nearly_the_same(tmp_path, tool, capsys):
    model = unet(width=4, batch_norm=True, size=32)
    whole = save_weights(model, tmp_path / "whole.weights.h5", {"kind": "segmenter", "conventions": ["lung_field"]})
    half = tmp_path / "half.weights.h5"
    assert tool.main(["halve", str(whole), str(half)]) == 0 and "half.weights.h5" in capsys.readouterr().out
    assert half.stat().st_size < 0.7 * whole.stat().st_size
    assert read_metadata(half) == read_metadata(whole)
    images = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 1)).astype("float32")
    expected = np.asarray(model(images))
    again = unet(width=4, batch_norm=True, size=32)
    load_weights(again, half)
    assert 0 < np.abs(np.asarray(again(images)) - expected).max() < 1e-2
    assert tool.main(["halve", str(whole), str(half)]) == 2  # never over a file that exists


def test_numbers_beyond_half_precision_are_refused_and_nothing_is_left(tmp_path, tool):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    model.get_layer(index=0).kernel.assign([[1e6, 0.0], [0.0, 1.0]])
    whole = save_weights(model, tmp_path / "whole.weights.h5", {"kind": "classifier"})
    with pytest.raises(InputError, match="beyond float16"):
        tool.halve(whole, tmp_path / "half.weights.h5")
    assert [path.name for path in tmp_path.iterdir()] == ["whole.weights.h5"]


def test_a_registered_file_is_described_by_its_metadata_and_loads_by_name(registered, package, classifier, metadata):
    assert manifest.read() == {"tiny": registered}
    assert registered.labels == ("normal", "covid19") and registered.card == "tiny.md"
    assert registered.size == (package / "tiny.weights.h5").stat().st_size and len(registered.sha256) == 64
    assert registered.architecture == metadata["architecture"] and registered.input == metadata["input"]
    stacks = np.zeros((1, 32, 32, 1), np.uint8)
    probabilities = covidcxnet.load_model("tiny").predict_stacks(stacks)
    np.testing.assert_allclose(probabilities[:, 1:], np.asarray(classifier(stacks)), atol=1e-6)


@pytest.mark.parametrize("case", ["no card", "outside", "not ours", "no classes"])
def test_files_that_cannot_be_released_are_refused(package, tmp_path, classifier, metadata, tool, case):
    path = package / "tiny.weights.h5"
    if case == "no card":
        (package / "tiny.md").unlink()
    if case == "outside":
        path = save_weights(classifier, tmp_path / "tiny.weights.h5", metadata)
    if case == "not ours":
        path.write_bytes(b"no HDF5")
    if case == "no classes":
        save_weights(classifier, path, {key: value for key, value in metadata.items() if key != "classes"})
    with pytest.raises(InputError):
        tool.register(path, licence="x")
    assert manifest.read() == {}
