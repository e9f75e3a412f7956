"""Metadata that ask for absurd networks or inputs: an `InputError` before memory is taken, whatever the option."""

from __future__ import annotations

import json
import shutil
from itertools import product

import h5py
import keras
import numpy as np
import pytest

import covidcxnet
from covidcxnet.models import MODELS
from covidcxnet.settings import InputSettings
from enhancement.errors import InputError
from segmentation.model import unet
from segmentation.segmenter import LungSegmenter
from weights import bounded
from weights.bounded import bounded_by
from weights.format import read_metadata, save_weights

OPTIONS = {"size": 32, "channels": 1, "filters": [4, 4], "hidden": [4]}
INPUT = {"size": 32, "channels": ["raw"]}
BILLION = 10**9


@pytest.fixture(scope="module")
def good(classifier_file, tmp_path_factory):
    return classifier_file, save_weights(unet(2, size=32), tmp_path_factory.mktemp("s") / "segmenter.weights.h5", {})


@pytest.fixture
def crafted(good, tmp_path):
    """A function that writes other metadata into a good file."""

    def write(metadata):
        source = good[metadata["kind"] == "segmenter"]
        path = shutil.copy(source, tmp_path / "crafted.weights.h5")
        with h5py.File(path, "r+") as file:
            file.attrs["covidcxnet"] = json.dumps({"format": 1, **metadata})
        return path

    return write


def _classifier(architecture, input=INPUT, classes=("normal", "covid19")):
    return {"kind": "classifier", "architecture": architecture, "classes": list(classes), "input": input}


@pytest.fixture
def made(monkeypatch):
    """Numbers in all variables that were really made."""
    numbers = []
    add_weight = keras.layers.Layer.add_weight

    def counted(layer, shape=None, *args, **options):
        variable = add_weight(layer, shape, *args, **options)
        numbers.append(int(np.prod(variable.shape)))
        return variable

    monkeypatch.setattr(keras.layers.Layer, "add_weight", counted)
    return numbers


def _short(value):
    return str(value)[:60]


ABSURD = [
    *(
        ("small-cnn", {**OPTIONS, **changes})
        for changes in (
            {"filters": [BILLION, BILLION]},
            {"filters": [4] * 5000},
            {"filters": [10**6, 10**6]},
            {"filters": [4] * 40 + [BILLION]},
            {"filters": [-1, 4]},
            {"filters": "many"},
            {"hidden": [BILLION]},
            {"hidden": [4] * 5000},
            {"hidden": {"a": 1}},
            {"size": 10**6},
            {"channels": BILLION},
            {"size": 4096, "channels": 10**7},
        )
    ),
    ("base-cnn", {"size": 4096, "channels": 1, "filters": 64}),
    ("covid-cxnet", {"size": 64, "channels": 3, "blocks": [10**6, 10**6]}),
    ("covid-cxnet", {"size": 64, "channels": 3, "blocks": [40, 40], "growth": 4}),
    ("covid-cxnet", {"size": 64, "channels": 3, "blocks": [1, 1], "growth": BILLION}),
    ("covid-cxnet", {"size": 4096, "channels": 3 * 10**6, "normalization": "unit"}),
    ("alexnet", {"size": 4096, "channels": 3}),
    ("vgg16", {"size": 4096, "channels": 3}),
]


@pytest.mark.parametrize(("name", "options"), ABSURD, ids=_short)
@pytest.mark.parametrize("widths", ["checked", "not known"])
def test_a_network_that_the_file_cannot_fill_is_refused_before_memory_is_taken(
    crafted, monkeypatch, made, name, options, widths
):
    assert name in MODELS
    path = crafted(_classifier({"name": name, "options": options}))
    if widths == "not known":  # options that nobody thought of: what the layers ask for is counted all the same
        monkeypatch.setattr("weights.format.check_widths", lambda *_: None)
    made.clear()
    with pytest.raises(InputError, match="crafted") as error:
        covidcxnet.load_model(path)
    assert "\n" not in str(error.value) and len(str(error.value)) < 1000
    assert sum(made) < 10**6 and len(made) < 1000


@pytest.mark.parametrize("text", ["[" * 50_000, '{"format": 1e999}', b"\xed\xa0\x80", b"\xff"])
def test_metadata_that_are_no_record_are_refused(crafted, text):
    path = crafted({"kind": "classifier"})
    with h5py.File(path, "r+") as file:
        file.attrs["covidcxnet"] = text
    with pytest.raises(InputError, match="crafted"):
        read_metadata(path)


NAN = float("nan")
STRANGE = [-1, 0, 2**63, 10**400, 1.5, float("inf"), NAN, True, None, "many", [], [[]], [None], {"a": 1}]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *product(("size", "filters"), STRANGE),
        *product(("channels", "hidden", "dropout"), (-1, 10**400, NAN, True, "many", [None])),
        *product(("pool", "normalization", "head"), (2**63, None, "many", [[]], {"a": 1})),
    ],
    ids=_short,
)
def test_a_strange_option_is_refused_or_harmless(crafted, made, key, value):
    architecture = {"name": "small-cnn", "options": {**OPTIONS, key: value}}
    path = crafted(_classifier(architecture))
    made.clear()
    try:
        covidcxnet.load_model(path)
    except InputError as error:
        assert "crafted" in str(error)
    assert sum(made) < 10**6


def test_too_many_classes_are_refused(crafted, made):
    path = crafted(_classifier({"name": "small-cnn", "options": OPTIONS}, classes=map(str, range(5000))))
    made.clear()
    with pytest.raises(InputError, match="crafted"):
        covidcxnet.load_model(path)
    assert sum(made) < 10**6


@pytest.mark.parametrize("architecture", [None, [], "small-cnn", {"name": ["small-cnn"], "options": {}}, {"name": 3}])
def test_a_strange_architecture_is_refused(crafted, architecture):
    with pytest.raises(InputError, match="crafted"):
        covidcxnet.load_model(crafted(_classifier(architecture)))


@pytest.mark.parametrize(
    "input",
    [
        *([1, 2], "raw", 7),
        {"size": "big"},
        {"size": None},
        {"size": 10**9},
        {"channels": 7},
        {"channels": ["raw"] * 2000},
        {"clahe_tile_grid": [10**6, 10**6]},
        {"clahe_tile_grid": [None, 8]},
        {"resolution": "high"},
        {"margin": 10**400},
        {"margin": "wide"},
        {"histogram": ["a"] * 256},
        {"histogram": 3},
    ],
    ids=_short,
)
def test_strange_input_settings_are_refused(input):
    with pytest.raises(InputError):
        InputSettings.from_dict({**INPUT, **input} if isinstance(input, dict) else input)


def _segmenter(**changes):
    facts = {"kind": "segmenter", "conventions": ["lung_field"], "input": {"size": 32}}
    facts["architecture"] = {"name": "unet", "options": {"width": 2}}
    return facts | changes


def _unet(**options):
    return {"architecture": {"name": "unet", "options": options}}


@pytest.mark.parametrize(
    "changes",
    [
        *(_unet(width=width) for width in (10**6, 10**9, 10**400, "wide")),
        *(_unet(**options) for options in ({"channels": 10**9}, {"channels": 3}, {"scaling": ["x"]})),
        _unet(outputs="many"),
        {**_unet(outputs=5000), "conventions": ["x"] * 5000},
        {"architecture": {"name": "imlab-unet", "options": {"width": 2}}},
        *({"input": {"size": size}} for size in (32.0, 2**30, "big")),
        *({"input": {"size": 32, "clahe_tile_grid": grid}} for grid in ([10**6, 10**6], 8)),
        {"input": [32]},
        {"conventions": 1},
    ],
    ids=_short,
)
@pytest.mark.parametrize("widths", ["checked", "not known"])
def test_an_absurd_segmenter_is_refused(crafted, monkeypatch, made, changes, widths):
    if widths == "not known":
        monkeypatch.setattr("segmentation.model.check_widths", lambda *_: None)
    path = crafted(_segmenter(**changes))
    made.clear()
    with pytest.raises(InputError, match="crafted"):
        _ = LungSegmenter(path).model
    assert sum(made) < 10**6


def test_the_bound_ends_with_its_block_and_holds_for_its_own_thread_alone(crafted):
    from concurrent.futures import ThreadPoolExecutor

    path = crafted(_segmenter())
    before = keras.layers.Layer.add_weight

    def build():
        keras.layers.Dense(10_000).build((None, 1000))

    with bounded_by(path), ThreadPoolExecutor(1) as pool:
        pool.submit(build).result()
        with pytest.raises(InputError, match="crafted"):
            build()
    assert keras.layers.Layer.add_weight is before
    build()


def test_many_small_variables_are_too_many(crafted, monkeypatch):
    path = crafted(_segmenter())
    monkeypatch.setattr(bounded, "MOST_VARIABLES", 10)
    with pytest.raises(InputError, match="11 variables"):
        _ = LungSegmenter(path).model


@pytest.mark.parametrize(
    ("input", "message"),
    [
        ({**INPUT, "segmenter": 7}, "input.segmenter: 7 given"),
        ({**INPUT, "clahe_tile_grid": [1.5, 2]}, "input.clahe_tile_grid"),
        ({**INPUT, "size": True}, "input.size: True given, a whole number expected"),
        ({**INPUT, "histogram": [10**400] * 256}, "input.histogram"),
        ([1, 2], ""),
        (7, ""),
    ],
    ids=_short,
)
def test_input_settings_of_a_wrong_type_are_refused_with_the_file(crafted, input, message):
    path = crafted(_classifier({"name": "small-cnn", "options": OPTIONS}, input))
    with pytest.raises(InputError) as error:
        covidcxnet.load_model(path)
    assert str(error.value).startswith(f"{path}: ") and message in str(error.value)


@pytest.mark.parametrize("segmenter", ["x", {"sha256": 5}])
def test_a_segmenter_that_is_no_record_is_refused_and_no_traceback(crafted, segmenter):
    path = crafted(_classifier({"name": "small-cnn", "options": OPTIONS}) | {"segmenter": segmenter})
    with pytest.raises(InputError, match="a name and a SHA-256 expected"):
        _ = covidcxnet.load_model(path).segmenter


@pytest.mark.parametrize("conventions", [[["a"], ["b"]], ["a", "a"]])
def test_masks_without_names_of_their_own_are_refused(crafted, conventions):
    with pytest.raises(InputError, match="different names expected"):
        LungSegmenter(crafted(_segmenter(conventions=conventions, **_unet(width=16, outputs=2))))
