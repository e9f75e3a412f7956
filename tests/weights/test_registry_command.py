"""`covidcxnet weights` and the maintainers' script: what is printed, exit codes, how a file is halved and entered."""

from __future__ import annotations

import json

import numpy as np
import pytest

import covidcxnet
from covidcxnet.cli.weights import main
from enhancement.errors import InputError
from segmentation.model import unet
from weights import manifest
from weights.format import load_weights, read_metadata, save_weights


def test_a_registered_file_that_changes_is_refused_by_name(registered, package, capsys):
    path = package / "tiny.weights.h5"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"SHA-256.*install again"):
        covidcxnet.load_model("tiny")
    assert main(["verify"]) == 1
    assert "SHA-256" in capsys.readouterr().err


def test_list_show_path_and_verify_say_what_there_is(registered, package, capsys):
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    assert all(word in out for word in ("tiny", "classifier", "package", "a tiny one"))
    assert main(["list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tiny"]["labels"] == ["normal", "covid19"]
    assert main(["show", "tiny"]) == 0
    out = capsys.readouterr().out
    assert registered.sha256 in out and "CC BY 4.0" in out and str(package / "tiny.md") in out
    assert main(["path", "tiny"]) == 0
    assert capsys.readouterr().out.strip() == str(package / "tiny.weights.h5")
    assert main(["verify", "tiny"]) == main(["verify"]) == 0
    assert "as released" in capsys.readouterr().out


def test_what_is_not_there_is_one_line_and_exit_code_2(registered, package, capsys):
    assert main(["show", "none"]) == 2
    assert "covidcxnet weights list shows all" in capsys.readouterr().err
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
    model.set_weights([np.full(w.shape, 1e6) for w in model.get_weights()])
    save_weights(model, whole, {})
    with pytest.raises(InputError, match="beyond float16"):
        tool.halve(whole, tmp_path / "wide.weights.h5")
    assert {path.name for path in tmp_path.iterdir()} == {whole.name, half.name}


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


def test_an_average_lies_between_its_networks_and_is_one_file(tmp_path, classifier, metadata, capsys):
    from covidcxnet.models import create

    options = metadata["architecture"]["options"]
    other = create("small-cnn", classes=("normal", "covid19"), **options)
    first = save_weights(classifier, tmp_path / "a.weights.h5", metadata)
    second = save_weights(other, tmp_path / "b.weights.h5", metadata | {"calibration": {"temperature": 2}})
    out = tmp_path / "average.weights.h5"
    assert main(["average", str(first), str(second), "--shares", "1", "3", "--out", str(out)]) == 0
    assert capsys.readouterr().out.strip() == str(out)
    averaged = covidcxnet.load_model(out, engine="keras")
    for a, b, c in zip(classifier.get_weights(), other.get_weights(), averaged.model.get_weights(), strict=True):
        np.testing.assert_allclose(c, 0.25 * a + 0.75 * b, atol=1e-6)
    assert [x["share"] for x in averaged.metadata["average"]] == [0.25, 0.75] and "calibration" not in averaged.metadata
    renamed = save_weights(other, tmp_path / "c.weights.h5", metadata | {"classes": ["normal", "pneumonia"]})
    for arguments, reason in (
        ([str(first), str(renamed)], "other classes than"),
        ([str(first)], "2 or more expected"),
        ([str(first), str(second), "--shares", "1", "-1"], "none below 0"),
        ([str(first), str(second), "--shares", "1"], "shares: 1 given for 2 weights files"),
    ):
        assert main(["average", *arguments, "--out", str(tmp_path / "none.weights.h5")]) == 2
        assert reason in capsys.readouterr().err
    assert not (tmp_path / "none.weights.h5").exists()
    before = second.read_bytes()
    assert main(["average", str(first), str(second), "--out", str(second)]) == 2 and second.read_bytes() == before
    assert "exists; give another place or --overwrite" in capsys.readouterr().err
    assert main(["average", str(first), str(second), "--out", str(second), "--overwrite"]) == 0
    assert second.read_bytes() != before
