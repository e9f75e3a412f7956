"""Weights files say what they are, and damaged ones say so."""

import hashlib
import subprocess
import sys

import h5py
import numpy as np
import pytest

from enhancement.errors import InputError
from enhancement.parallel import sha256
from segmentation.model import unet
from weights.format import load_weights, read_metadata, save_weights


def test_metadata_and_weights_come_back(tmp_path):
    model = unet(2, size=16, batch_norm=True)
    path = save_weights(model, tmp_path / "new" / "a.weights.h5", {"kind": "segmenter", "list": [1, "x"]})
    assert read_metadata(path) == {"format": 1, "kind": "segmenter", "list": [1, "x"]}
    other = unet(2, size=16, batch_norm=True)
    load_weights(other, path)
    for one, two in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    assert [p.name for p in path.parent.iterdir()] == ["a.weights.h5"]


def test_plain_keras_reads_the_file(tmp_path):
    model, other = unet(2, size=16), unet(2, size=16)
    other.load_weights(save_weights(model, tmp_path / "a.weights.h5", {}))
    np.testing.assert_array_equal(model.get_weights()[0], other.get_weights()[0])


def test_a_compiled_model_leaves_its_optimizer_out(tmp_path):
    model = unet(2, size=16)
    bare = save_weights(model, tmp_path / "bare.weights.h5", {}).stat().st_size
    model.compile("adam", "binary_crossentropy")
    model.fit(np.zeros((1, 16, 16, 1)), np.zeros((1, 16, 16, 1)), verbose=0)
    assert save_weights(model, tmp_path / "c.weights.h5", {}).stat().st_size < 1.2 * bare


def test_reading_metadata_needs_no_keras(tmp_path):
    path = save_weights(unet(2, size=16), tmp_path / "a.weights.h5", {})
    code = f"import sys; from weights.format import read_metadata; read_metadata({str(path)!r}); "
    code += "sys.exit(any(m in sys.modules for m in ('keras', 'tensorflow')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    model = unet(2, size=16)
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


@pytest.mark.parametrize("content", [b"", b"not HDF5", b"\x89HDF\r\n\x1a\n" + b"\0" * 64])
def test_what_is_no_weights_file_is_refused(tmp_path, content):
    (tmp_path / "a.weights.h5").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.weights\.h5"):
        read_metadata(tmp_path / "a.weights.h5")


@pytest.mark.parametrize("value", [None, "{", "[1]", 7, '{"format": 2}'])
def test_missing_or_strange_metadata_is_refused(tmp_path, value):
    path = tmp_path / "a.weights.h5"
    with h5py.File(path, "w") as file:
        if value is not None:
            file.attrs["covidcxnet"] = value
    with pytest.raises(InputError, match=r"metadata|JSON|format"):
        read_metadata(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such"):
        read_metadata(tmp_path / "a.weights.h5")


def test_weights_of_another_network_are_refused(tmp_path):
    path = save_weights(unet(2, size=16), tmp_path / "a.weights.h5", {})
    with pytest.raises(InputError, match="do not fit"):
        load_weights(unet(4, size=16), path)
    (tmp_path / "cut.weights.h5").write_bytes(path.read_bytes()[:5000])
    with pytest.raises(InputError, match=r"not fit|damaged"):
        load_weights(unet(2, size=16), tmp_path / "cut.weights.h5")


def test_the_hash_is_of_the_content(tmp_path):
    (tmp_path / "a").write_bytes(b"lungs")
    assert sha256(tmp_path / "a") == hashlib.sha256(b"lungs").hexdigest()
