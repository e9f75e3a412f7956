"""Metadata that ask for absurd networks or inputs: an `InputError` before memory is taken, whatever the option."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import h5py
import keras
import numpy as np
import pytest

import covidcxnet
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
        path = shutil.copy(good[metadata["kind"] == "segmenter"], tmp_path / "crafted.weights.h5")
        with h5py.File(path, "r+") as file:
            file.attrs["covidcxnet"] = json.dumps({"format": 1, **metadata})
        return path

    return write


def _classifier(name="small-cnn", options=OPTIONS, **changes):
    architecture = {"name": name, "options": options}
    facts = {"kind": "classifier", "architecture": architecture, "classes": ["normal", "covid19"], "input": INPUT}
    return facts | changes


def _segmenter(**changes):
    facts = {"kind": "segmenter", "conventions": ["lung_field"], "input": {"size": 32}}
    return facts | {"architecture": {"name": "unet", "options": {"width": 2}}} | changes


def _unet(**options):
    return {"architecture": {"name": "unet", "options": options}}


def _load(path, metadata):
    """All of what a file describes."""
    return LungSegmenter(path).model if metadata["kind"] == "segmenter" else covidcxnet.load_model(path).segmenter


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
    yield numbers
    assert sum(numbers) < 10**6 and len(numbers) < 1000


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
UNETS = [
    *(_unet(width=width) for width in (10**9, 10**400, "wide")),
    *(_unet(**options) for options in ({"channels": BILLION}, {"channels": 3}, {"scaling": ["x"]})),
    _unet(outputs="many"),
    {**_unet(outputs=5000), "conventions": ["x"] * 5000},
    {"architecture": {"name": "imlab-unet", "options": {"width": 2}}},
    *({"input": strange} for strange in ({"size": 32.0}, {"size": 2**30}, {"size": "big"}, [32])),
    *({"input": {"size": 32, "clahe_tile_grid": grid}} for grid in ([10**6, 10**6], 8)),
    {"conventions": 1},
]


@pytest.mark.parametrize(
    "metadata", [*(_classifier(*absurd) for absurd in ABSURD), *(_segmenter(**change) for change in UNETS)], ids=_short
)
@pytest.mark.parametrize("widths", ["checked", "not known"])
def test_a_network_that_the_file_cannot_fill_is_refused_before_memory_is_taken(
    crafted, monkeypatch, made, metadata, widths
):
    if widths == "not known":  # options that nobody thought of: what the layers ask for is counted all the same
        monkeypatch.setattr("covidcxnet.pretrained.check_widths", lambda *_: None)
        monkeypatch.setattr("segmentation.model.check_widths", lambda *_: None)
    with pytest.raises(InputError, match="crafted") as error:
        _load(crafted(metadata), metadata)
    assert "\n" not in str(error.value) and len(str(error.value)) < 1000


NAN = float("nan")
STRANGE = [-1, 2**63, 10**400, 1.5, NAN, True, None, "many", [], [[]], {"a": 1}]


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
    try:
        covidcxnet.load_model(crafted(_classifier(options={**OPTIONS, key: value})))
    except InputError as error:
        assert "crafted" in str(error)


STRANGE_INPUTS = {
    "size": ("big", None, BILLION, True),
    "channels": (7, ["raw"] * 2000),
    "clahe_tile_grid": ([10**6, 10**6], [None, 8], [1.5, 2]),
    "margin": (10**400, "wide"),
    "histogram": (["a"] * 256, 3, [10**400] * 256),
    "resolution": ("high",),
    "segmenter": (7,),
}


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (_classifier(classes=[str(number) for number in range(5000)]), ""),
        (_classifier(classes=["normal", "covid\n19"]), "a list of names expected"),
        *((_classifier(architecture=strange), "") for strange in (None, [], "small-cnn", {"name": ["x"]}, {"name": 3})),
        *((_classifier(input=strange), "") for strange in ([1, 2], "raw", 7)),
        *((_classifier(input=INPUT | {key: value}), "") for key, values in STRANGE_INPUTS.items() for value in values),
        *((_classifier(segmenter=strange), "a name and a SHA-256 expected") for strange in ("x", {"sha256": 5})),
        # values longer than a screen
        *((_classifier(input=INPUT | {"resolution": "x" * 5000}), ""), (_segmenter(architecture="x" * 5000), "")),
        # masks need names of their own
        *(
            (_segmenter(conventions=names, **_unet(width=16, outputs=2)), "different names expected")
            for names in ([["a"], ["b"]], ["a", "a"])
        ),
    ],
    ids=_short,
)
def test_a_strange_record_is_refused_with_the_file(crafted, made, metadata, message):
    with pytest.raises(InputError, match=f"crafted.*{message}") as caught:
        _load(crafted(metadata), metadata)
    assert len(str(caught.value)) < 800


def test_the_bound_ends_with_its_block_and_holds_for_its_own_thread_alone(crafted):
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
    monkeypatch.setattr(bounded, "MOST_VARIABLES", 10)
    with pytest.raises(InputError, match="11 variables"):
        _ = LungSegmenter(crafted(_segmenter())).model
