"""Export: each format's own runtime gives what Keras gives, for any batch; the description says how to feed it."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from configparser import ConfigParser
from pathlib import Path

import cv2
import numpy as np
import pytest

import covidcxnet
from covidcxnet.cli import export as export_command
from covidcxnet.export import compare, export
from covidcxnet.export_formats import FORMATS, Format, default_path
from covidcxnet.models import create
from covidcxnet.settings import InputSettings
from enhancement.errors import InputError
from enhancement.parallel import sha256
from segmentation.model import unet
from weights import manifest
from weights.format import save_weights

OPTIONS = {"size": 33, "channels": 3, "blocks": [1], "growth": 2, "normalization": "imagenet"}
SETTINGS = InputSettings(size=33, channels=("raw", "clahe", "beasf"), region="crop")
SEGMENTER = {"name": "lung-unet", "sha256": "0" * 64}


def _spread(model):
    """Weights that make outputs differ from stack to stack."""
    generator = np.random.default_rng(0)
    draws = [(w.shape, generator.uniform(0.5, 1.5, w.shape), w.size**-0.25) for w in model.get_weights()]
    model.set_weights([ones if len(shape) == 1 else generator.normal(0, scale, shape) for shape, ones, scale in draws])
    return model


def _save(path, classes=("normal", "covid19")):
    facts = {"kind": "classifier", "classes": list(classes), "input": SETTINGS.to_dict(), "segmenter": SEGMENTER}
    facts |= {"architecture": {"name": "covid-cxnet", "options": OPTIONS}, "training": {"epoch": 3}}
    return save_weights(_spread(create("covid-cxnet", classes=classes, **OPTIONS)), path, facts)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return _save(tmp_path_factory.mktemp("weights") / "tiny.weights.h5")


@pytest.fixture(scope="module")
def lungs(tmp_path_factory):
    facts = {"kind": "segmenter", "conventions": ["lung_field"], "input": {"size": 32}}
    facts["architecture"] = {"name": "unet", "options": {"width": 2, "scaling": "unit"}}
    path = tmp_path_factory.mktemp("weights") / "lungs.weights.h5"
    return save_weights(_spread(unet(2, size=32, scaling="unit")), path, facts)


def _need(format):
    missing = [package for package in FORMATS[format].packages if not importlib.util.find_spec(package)]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed")


@pytest.fixture
def plain(monkeypatch):
    """Formats that cost nothing: a file, or a folder with one, that says whose network it is, run by Keras.

    What is appended to the list changes the outputs.
    """
    models, changes = {}, []

    def write(model, path):
        if not path.suffix:
            path.mkdir()
            path = path / "saved_model.pb"
        path.write_text(model.name)
        models[model.name] = model

    def runner(path):
        model = models[(path if path.suffix else path / "saved_model.pb").read_text()]
        change = changes[-1] if changes else lambda rows: rows
        return lambda stacks: change(np.asarray(model(stacks, training=False)))

    for name, suffix in (("plain", ".plain"), ("folder", "")):
        monkeypatch.setitem(FORMATS, name, Format(write, runner, suffix, runtime="keras"))
    return changes


def _stacks(count, size=33, channels=3):
    return np.random.default_rng(1).integers(0, 256, (count, size, size, channels)).astype("uint8")


@pytest.mark.parametrize("format", FORMATS)
def test_an_exported_classifier_gives_the_same_probabilities_in_batches_of_any_size(weights, tmp_path, format):
    _need(format)
    done = export(weights, tmp_path / f"made{FORMATS[format].suffix}", format)
    assert done.comparison.difference <= 1e-5 and done.comparison.stacks == 4
    run = FORMATS[format].runner(done.path)
    expected = covidcxnet.load_model(weights).predict_stacks(_stacks(5))[:, 1:]
    assert expected.std() > 1e-3, "a constant shows nothing"
    for part in (slice(0, 1), slice(0, 5), slice(1, 3)):
        np.testing.assert_allclose(run(_stacks(5)[part].astype("float32")), expected[part], atol=1e-5)


@pytest.mark.parametrize("format", FORMATS)
def test_an_exported_segmenter_takes_bytes_and_gives_the_same_maps(lungs, tmp_path, format):
    _need(format)
    done = export(lungs, tmp_path / f"made{FORMATS[format].suffix}", format, input_type="uint8")
    stacks = _stacks(2, 32, 1)
    model = unet(2, size=32, scaling="unit")
    model.load_weights(lungs)
    np.testing.assert_allclose(FORMATS[format].runner(done.path)(stacks), np.asarray(model(stacks)), atol=1e-5)
    facts = json.loads(done.description.read_text())
    assert facts["stack"]["type"] == "uint8" and facts["stack"]["shape"] == [None, 32, 32, 1]
    assert facts["conventions"] == ["lung_field"] and facts["input_settings"]["enhancement"] == "clahe"


def test_the_description_says_how_to_feed_the_file_and_where_it_comes_from(weights, tmp_path, monkeypatch, plain):
    facts = {"kind": "classifier", "licence": "CC BY-NC 4.0", "sha256": sha256(weights)}
    entry = manifest.Entry(name="released", file="f.weights.h5", **facts)
    # Released weights are known by their content, whatever the file is called.
    monkeypatch.setattr(manifest, "read", lambda path=None: {"released": entry})
    done = export(weights, tmp_path / "made.plain", "plain")
    assert done.description == tmp_path / "made.plain.json"
    facts = json.loads(done.description.read_text())
    assert InputSettings.from_dict(facts["input_settings"]) == SETTINGS
    assert facts["stack"]["planes"] == ["raw", "clahe", "beasf"] and facts["stack"]["range"] == [0, 255]
    assert facts["classes"] == ["normal", "covid19"] and facts["segmenter"] == SEGMENTER
    assert facts["output"]["meaning"].startswith("probability of covid19")
    assert facts["origin"]["sha256"] == sha256(weights)
    assert "Research only" in facts["research_only"] and facts["licence"] == "CC BY-NC 4.0"
    assert facts["check"]["largest_difference"] == done.comparison.difference
    path = _save(tmp_path / "three.weights.h5", ("normal", "pneumonia", "covid19"))
    facts = json.loads(export(path, tmp_path / "three.plain", "plain").description.read_text())
    assert facts["output"]["shape"] == [None, 3] and "add up to 1" in facts["output"]["meaning"]
    assert "not known" in facts["licence"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows + 0.01, "differs from the Keras model by up to 0.01"),
        (lambda rows: rows * np.nan, "differs from the Keras model by up to nan"),
        (lambda rows: rows[:, :0], "expected"),
    ],
)
def test_an_export_that_computes_something_else_is_not_kept(weights, tmp_path, plain, change, message):
    plain.append(change)
    with pytest.raises(InputError, match=message):
        export(weights, tmp_path / "made.plain", "plain")
    assert list(tmp_path.iterdir()) == []
    if "0.01" in message:
        assert export(weights, tmp_path / "made.plain", "plain", tolerance=0.02).path.is_file()


def test_an_earlier_export_stays_whole_until_a_better_one_is_there(weights, lungs, tmp_path, plain):
    path = tmp_path / "made.plain"
    first = export(weights, path, "plain")
    with pytest.raises(InputError, match="exists"):
        export(lungs, path, "plain")
    plain.append(lambda rows: rows + 1)
    with pytest.raises(InputError, match="differs"):
        export(lungs, path, "plain", overwrite=True)
    assert json.loads(first.description.read_text())["kind"] == "classifier"
    plain.clear()
    assert FORMATS["plain"].runner(first.path)(_stacks(1).astype("float32")).shape == (1, 1)
    export(lungs, path, "plain", overwrite=True)
    assert json.loads(first.description.read_text())["kind"] == "segmenter"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made.plain", "made.plain.json"]


def test_an_exported_folder_is_replaced_and_no_other(weights, tmp_path, plain):
    for overwrite in (False, True):
        export(weights, tmp_path / "made", "folder", overwrite=overwrite)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made", "made.json"]
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.txt").write_text("years")
    with pytest.raises(InputError, match="no earlier export"):
        export(weights, tmp_path / "work", "folder", overwrite=True)
    assert (tmp_path / "work" / "thesis.txt").exists()


def test_given_images_are_prepared_by_the_models_settings_and_the_unreadable_are_named(lungs, tmp_path, plain):
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"broken\.png"):
        export(lungs, tmp_path / "made.plain", "plain", images=[tmp_path])
    assert not (tmp_path / "made.plain").exists()
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), _stacks(1, 40, 1)[0])
    comparison = export(lungs, tmp_path / "made.plain", "plain", images=[tmp_path]).comparison
    assert comparison.stacks == 3
    assert len(comparison.unreadable) == 1 and "broken.png" in comparison.unreadable[0]
    metadata = {"classes": ["a", "b"], "input": dataclasses.replace(SETTINGS, region="none").to_dict()}
    model, inputs = covidcxnet.Classifier(create("covid-cxnet", **OPTIONS), metadata), []
    run = lambda stacks: inputs.append(stacks) or np.asarray(model.model(stacks, training=False))  # noqa: E731
    result = compare(model, run, [tmp_path / "0.png"], "float32")
    assert (result.stacks, result.difference, result.unreadable) == (1, 0.0, ())
    (outcome,) = next(model.batches(tmp_path / "0.png"))[1]
    np.testing.assert_array_equal(inputs[0][0], outcome.prepared.stack)


@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        ("made.h5", {"format": "onnx"}, r"ends in \.onnx"),
        ("made.onnx", {"format": "savedmodel"}, "another format"),
        ("made", {"format": "coreml"}, "onnx, openvino, tflite, savedmodel"),
        ("made", {"format": "savedmodel", "tolerance": -1}, "tolerance"),
        ("made", {"format": "savedmodel", "tolerance": float("nan")}, "tolerance"),
        ("made", {"format": "savedmodel", "input_type": "int8"}, "float32, uint8"),
        ("made", {"format": "savedmodel", "images": ["none.png"]}, "none.png"),
    ],
)
def test_what_cannot_be_written_is_refused_before_any_work(tmp_path, monkeypatch, path, options, message):
    monkeypatch.setattr("covidcxnet.export._load", lambda _: pytest.fail("weights were loaded"))
    with pytest.raises(InputError, match=message):
        export("no-weights", tmp_path / path, **options)


def test_a_missing_package_is_named_with_the_extra_that_brings_it(tmp_path, monkeypatch):
    format, package = "onnx", FORMATS["onnx"].packages[-1]
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == package else there(name, *a))
    with pytest.raises(InputError, match=rf"{package}.*pip install .*\[export\]"):
        export("no-weights", tmp_path / f"made{FORMATS[format].suffix}", format)
    setup = ConfigParser()
    setup.read(Path(__file__).parents[1] / "setup.cfg")
    named = {line.partition(">")[0] for line in setup["options.extras_require"]["export"].split()}
    assert named == {package for format in FORMATS.values() for package in format.packages}
    assert "openvino" in setup["options"]["install_requires"]


def test_the_command_prints_the_largest_difference(weights, tmp_path, monkeypatch, capsys, plain):
    monkeypatch.chdir(tmp_path)
    assert export_command.main(["--weights", str(weights), "--format", "plain"]) == 0
    printed = capsys.readouterr().out
    for text in ("tiny.plain: ", "largest difference from the Keras model: ", "Research only"):
        assert text in printed
    assert (tmp_path / "tiny.plain").is_file() and (tmp_path / "tiny.plain.json").is_file()
    assert default_path("runs/a/best.weights.h5", "openvino").name == "best.xml"
    assert default_path("runs/a/", "savedmodel").name == "a-savedmodel"
    for path, message in ((weights, "exists"), ("no-such", "no-such")):
        assert export_command.main(["--weights", str(path), "--format", "plain"]) == 2
        assert message in capsys.readouterr().err
