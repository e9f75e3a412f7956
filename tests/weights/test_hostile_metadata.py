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
from enhancement.errors import InputError
from segmentation.model import unet
from segmentation.segmenter import LungSegmenter
from weights import bounded
from weights.bounded import bounded_by
from weights.format import save_weights

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


def _classifier(architecture):
    return {"kind": "classifier", "architecture": architecture, "classes": ["normal", "covid19"], "input": INPUT}


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


FILTERS = ([BILLION] * 2, [10**6] * 2, [4] * 5000, [4] * 40 + [BILLION], [-1, 4], "many")
SIZES = ({"size": 10**6}, {"channels": BILLION}, {"size": 4096, "channels": 10**7})
BLOCKS = ({"blocks": [10**6] * 2}, {"blocks": [40, 40], "growth": 4}, {"blocks": [1, 1], "growth": BILLION})
ABSURD = [
    *(("small-cnn", OPTIONS | {"filters": filters}) for filters in FILTERS),
    *(("small-cnn", OPTIONS | {"hidden": hidden}) for hidden in ([BILLION], [4] * 5000, {"a": 1})),
    *(("small-cnn", OPTIONS | size) for size in SIZES),
    *(("covid-cxnet", {"size": 64, "channels": 3} | blocks) for blocks in BLOCKS),
    ("covid-cxnet", {"size": 4096, "channels": 3 * 10**6, "normalization": "unit"}),
    ("base-cnn", {"size": 4096, "channels": 1, "filters": 64}),
    *((name, {"size": 4096, "channels": 3}) for name in ("alexnet", "vgg16")),
]


@pytest.mark.parametrize(("name", "options"), ABSURD, ids=_short)
@pytest.mark.parametrize("widths", ["checked", "not known"])
def test_a_network_that_the_file_cannot_fill_is_refused_before_memory_is_taken(
    crafted, monkeypatch, made, name, options, widths
):
    assert name in MODELS
    path = crafted(_classifier({"name": name, "options": options}))
    if widths == "not known":  # options that nobody thought of: what the layers ask for is counted all the same
        monkeypatch.setattr("covidcxnet.pretrained.check_widths", lambda *_: None)
    made.clear()
    with pytest.raises(InputError, match="crafted") as error:
        covidcxnet.load_model(path)
    assert "\n" not in str(error.value) and len(str(error.value)) < 1000
    assert sum(made) < 10**6 and len(made) < 1000


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


SMALL = {"name": "small-cnn", "options": OPTIONS}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": [str(number) for number in range(5000)]}, ""),
        *(({"architecture": strange}, "") for strange in (None, [], "small-cnn", {"name": ["small-cnn"]}, {"name": 3})),
        *(({"input": strange}, "") for strange in ([1, 2], "raw", 7)),
        *(({"input": INPUT | {"size": size}}, "size") for size in ("big", None, BILLION, True)),
        *(({"input": INPUT | {"channels": channels}}, "") for channels in (7, ["raw"] * 2000)),
        *(({"input": INPUT | {"clahe_tile_grid": grid}}, "") for grid in ([10**6, 10**6], [None, 8], [1.5, 2])),
        *(({"input": INPUT | {"margin": margin}}, "") for margin in (10**400, "wide")),
        *(({"input": INPUT | {"histogram": counts}}, "") for counts in (["a"] * 256, 3, [10**400] * 256)),
        ({"input": INPUT | {"resolution": "high"}}, "resolution"),
        ({"input": INPUT | {"segmenter": 7}}, "input.segmenter: 7 given"),
    ],
    ids=_short,
)
def test_a_strange_record_is_refused_with_the_file(crafted, made, changes, message):
    path = crafted(_classifier(SMALL) | changes)
    made.clear()
    with pytest.raises(InputError) as error:
        covidcxnet.load_model(path)
    assert str(error.value).startswith(f"{path}: ") and message in str(error.value)
    assert sum(made) < 10**6


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


@pytest.mark.parametrize("segmenter", ["x", {"sha256": 5}])
def test_a_segmenter_that_is_no_record_is_refused_and_no_traceback(crafted, segmenter):
    path = crafted(_classifier(SMALL) | {"segmenter": segmenter})
    with pytest.raises(InputError, match="a name and a SHA-256 expected"):
        _ = covidcxnet.load_model(path).segmenter


@pytest.mark.parametrize("conventions", [[["a"], ["b"]], ["a", "a"]])
def test_masks_without_names_of_their_own_are_refused(crafted, conventions):
    with pytest.raises(InputError, match="different names expected"):
        LungSegmenter(crafted(_segmenter(conventions=conventions, **_unet(width=16, outputs=2))))
