"""`covidcxnet weights`: what is printed, the exit codes, and how our own files are entered in the manifest."""

from __future__ import annotations

import json

import numpy as np
import pytest

import covidcxnet
import weights
from covidcxnet.cli.weights import main, register
from covidcxnet.models import create
from enhancement.errors import InputError
from weights.format import save_weights
from weights import manifest

OPTIONS = {"size": 32, "channels": 1, "filters": [4, 4]}
METADATA = {
    "kind": "classifier",
    "architecture": {"name": "small-cnn", "options": OPTIONS},
    "classes": ["normal", "covid19"],
    "input": {"size": 32, "channels": ["raw"]},
}


@pytest.fixture(scope="module")
def model():
    return create("small-cnn", classes=("normal", "covid19"), **OPTIONS)


@pytest.fixture
def package(tmp_path, monkeypatch, model):
    """A package folder with one file of ours and its card, an empty manifest and an empty cache; offline."""
    folder = tmp_path / "package"
    save_weights(model, folder / "tiny.weights.h5", METADATA)
    (folder / "tiny.md").write_text("# tiny")
    monkeypatch.setattr(weights, "FOLDER", folder)
    monkeypatch.setattr(manifest, "PATH", manifest.write({}, folder / "manifest.json"))
    monkeypatch.setenv("COVIDCXNET_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COVIDCXNET_OFFLINE", "1")
    return folder


@pytest.fixture
def registered(package):
    return register(package / "tiny.weights.h5", licence="CC BY 4.0", summary="a tiny one", manifest=manifest.PATH)


def test_registering_writes_what_the_file_says_of_itself(registered, package):
    assert manifest.read() == {"tiny": registered}
    assert registered.labels == ("normal", "covid19") and registered.card == "tiny.md"
    assert registered.size == (package / "tiny.weights.h5").stat().st_size and len(registered.sha256) == 64
    assert registered.architecture == METADATA["architecture"] and registered.input == METADATA["input"]


def test_a_registered_name_loads_and_predicts(registered, model):
    classifier = covidcxnet.load_model("tiny")
    stacks = np.zeros((1, 32, 32, 1), np.uint8)
    np.testing.assert_allclose(classifier.predict_stacks(stacks)[:, 1:], np.asarray(model(stacks)), atol=1e-6)


def test_a_registered_file_that_changes_is_refused_by_name(registered, package, capsys):
    path = package / "tiny.weights.h5"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"SHA-256.*install again"):
        covidcxnet.load_model("tiny")
    assert main(["verify"]) == 1
    assert "SHA-256" in capsys.readouterr().err


@pytest.mark.parametrize("what", ["no card", "outside", "not ours", "no classes"])
def test_files_that_cannot_be_released_are_refused(package, tmp_path, model, what):
    path = package / "tiny.weights.h5"
    if what == "no card":
        (package / "tiny.md").unlink()
    if what == "outside":
        path = save_weights(model, tmp_path / "tiny.weights.h5", METADATA)
    if what == "not ours":
        path.write_bytes(b"no HDF5")
    if what == "no classes":
        save_weights(model, path, {key: value for key, value in METADATA.items() if key != "classes"})
    with pytest.raises(InputError):
        register(path, licence="x")
    assert manifest.read() == {}


def test_list_and_show_say_what_there_is(registered, package, capsys):
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    assert all(word in out for word in ("tiny", "classifier", "package", "a tiny one"))
    assert main(["list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tiny"]["labels"] == ["normal", "covid19"]
    assert main(["show", "tiny"]) == 0
    out = capsys.readouterr().out
    assert registered.sha256 in out and "CC BY 4.0" in out and str(package / "tiny.md") in out


def test_path_and_verify_find_the_file(registered, package, capsys):
    assert main(["path", "tiny"]) == 0
    assert capsys.readouterr().out.strip() == str(package / "tiny.weights.h5")
    assert main(["verify", "tiny"]) == main(["verify"]) == 0
    assert "as released" in capsys.readouterr().out


def test_what_is_not_there_is_one_line_and_exit_code_2(registered, package, capsys):
    assert main(["show", "none"]) == 2
    assert "tiny" in capsys.readouterr().err
    (package / "tiny.weights.h5").unlink()
    for action, code in (("path", 2), ("fetch", 2), ("verify", 1)):
        assert main([action, "tiny"]) == code
        assert capsys.readouterr().err.count("\n") == 1
    assert main(["verify"]) == 0


def test_fetch_offline_names_url_and_place(package, capsys, tmp_path):
    facts = {"kind": "classifier", "summary": "s", "licence": "l", "md5": "0" * 32}
    far = manifest.Entry(name="far", file="far.h5", url="https://example.org/far.h5", **facts)
    manifest.write({"far": far}, manifest.PATH)
    assert main(["fetch", "far"]) == 2
    line = capsys.readouterr().err
    assert far.url in line and str(tmp_path / "home" / "weights" / "far.h5") in line and line.count("\n") == 1


def test_registering_from_the_command_line(package, capsys):
    assert main(["register", str(package / "tiny.weights.h5"), "--licence", "CC0"]) == 0
    assert manifest.read()["tiny"].licence == "CC0"
