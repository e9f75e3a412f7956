"""Weights files say what they are, and damaged ones say so."""

import subprocess
import sys

import h5py
import keras
import numpy as np
import pytest

from enhancement.errors import InputError
from segmentation.model import unet
from weights.format import load_weights, read_metadata, save_weights


@pytest.fixture(scope="module")
def model():
    return unet(2, size=16, batch_norm=True)


@pytest.fixture(scope="module")
def path(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights") / "new"
    return save_weights(model, folder / "a.weights.h5", {"kind": "segmenter", "list": [1, "x"]})


def test_metadata_and_weights_come_back_and_plain_keras_reads_the_file(model, path):
    assert read_metadata(path) == {"format": 1, "kind": "segmenter", "list": [1, "x"]}
    assert [p.name for p in path.parent.iterdir()] == ["a.weights.h5"]
    with pytest.raises(ValueError, match=r"load this file with segmentation\.LungSegmenter"):
        keras.models.load_model(path)
    other = unet(2, size=16, batch_norm=True)
    for load in (load_weights, keras.Model.load_weights):
        other.set_weights([np.zeros_like(w) for w in other.get_weights()])
        load(other, path)
        for expected, loaded in zip(model.get_weights(), other.get_weights(), strict=True):
            np.testing.assert_array_equal(expected, loaded)


def test_a_compiled_model_leaves_its_optimizer_out(path, tmp_path):
    model = unet(2, size=16, batch_norm=True)
    model.compile("adam", "binary_crossentropy")
    model.optimizer.build(model.trainable_variables)  # its moments are twice the weights
    assert len(model.optimizer.variables) > 2 * len(model.trainable_variables)
    assert save_weights(model, tmp_path / "c.weights.h5", {}).stat().st_size < 1.2 * path.stat().st_size


def test_reading_metadata_needs_no_keras(path):
    code = f"import sys; from weights.format import read_metadata; read_metadata({str(path)!r}); "
    code += "sys.exit(any(m in sys.modules for m in ('keras', 'tensorflow')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_failed_write_leaves_the_old_file(model, tmp_path, monkeypatch):
    path = save_weights(model, tmp_path / "a.weights.h5", {"n": 1})
    monkeypatch.setattr(h5py, "File", None)
    with pytest.raises(TypeError):
        save_weights(model, path, {"n": 2})
    monkeypatch.undo()
    assert read_metadata(path)["n"] == 1 and len(list(tmp_path.iterdir())) == 1


def test_another_ending_and_endless_metadata_are_refused(tmp_path):
    with pytest.raises(InputError, match="must end in"):
        save_weights(None, tmp_path / "a.h5", {})
    with pytest.raises(InputError, match="at most"):
        save_weights(None, tmp_path / "a.weights.h5", {"x": "y" * 70_000})


@pytest.mark.parametrize(
    "value",
    [None, "{", "[1]", 7, '{"format": 2}', '{"format": 1e999}', "[" * 50_000, b"\xed\xa0\x80", b"\xff"],
    ids=lambda value: str(value)[:20],
)
def test_missing_or_strange_metadata_is_refused(tmp_path, value):
    path = tmp_path / "a.weights.h5"
    with h5py.File(path, "w") as file:
        if value is not None:
            file.attrs["covidcxnet"] = value
    with pytest.raises(InputError, match=r"a\.weights\.h5: .*(metadata|JSON|format|damaged)"):
        read_metadata(path)


@pytest.mark.parametrize("content", [b"", b"not HDF5", b"\x89HDF\r\n\x1a\n" + b"\0" * 64])
def test_what_is_no_weights_file_or_one_of_another_network_is_refused(path, tmp_path, content):
    other = tmp_path / "a.weights.h5"
    with pytest.raises(InputError, match="no such"):
        read_metadata(other)
    other.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.weights\.h5"):
        read_metadata(other)
    with pytest.raises(InputError, match="do not fit"):
        load_weights(unet(4, size=16, batch_norm=True), path)
