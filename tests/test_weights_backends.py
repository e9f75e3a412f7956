"""One weights file, three backends: equal predictions, there and back."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import covidcxnet
from covidcxnet.models import create
from segmentation.model import unet
from weights.format import load_weights, save_weights

MODELS = {
    "covid-cxnet": {"size": 33, "channels": 3, "blocks": [2, 1], "growth": 4, "final_relu": False},
    "base-cnn": {"size": 70, "channels": 1, "filters": 4},
}

SHAPES = {**{name: (3, o["size"], o["size"], o["channels"]) for name, o in MODELS.items()}, "lungs": (2, 32, 32, 1)}


def write(folder):
    """Weights of every model, with batch-norm statistics too that are not their initial ones."""
    models = {name: create(name, classes=("normal", "covid19"), **options) for name, options in MODELS.items()}
    for name, model in {**models, "lungs": unet(2, size=32, batch_norm=True)}.items():
        random = np.random.default_rng(0)
        draws = [(w, random.uniform(0.5, 1.5, w.shape), w.size**-0.25) for w in model.get_weights()]
        model.set_weights([one if w.ndim == 1 else random.normal(0, scale, w.shape) for w, one, scale in draws])
        facts = {"kind": "segmenter"}
        if options := MODELS.get(name):
            facts = {"kind": "classifier", "architecture": {"name": name, "options": options}}
            facts["input"] = {"size": options["size"], "channels": ["raw"] * options["channels"]}
            facts["classes"] = ["normal", "covid19"]
        save_weights(model, folder / f"{name}.weights.h5", facts)


def outputs(folder, source, target):
    """What the files of an ending give for the same stacks; they are saved again under another ending."""
    rows = {}
    for name, shape in SHAPES.items():
        stacks, path = np.random.default_rng(1).integers(0, 256, shape).astype("uint8"), folder / f"{name}{source}"
        if name == "lungs":
            model, facts = unet(2, size=32, batch_norm=True), {"kind": "segmenter"}
            load_weights(model, path)
            rows[name] = keras.ops.convert_to_numpy(model(stacks))
        else:
            classifier = covidcxnet.load_model(path)
            model, facts, rows[name] = classifier.model, classifier.metadata, classifier.predict_stacks(stacks)
        save_weights(model, folder / f"{name}{target}", facts)
    return rows


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder of weights files, and what they predict here."""
    folder = tmp_path_factory.mktemp("backends")
    write(folder)
    return folder, outputs(folder, ".weights.h5", "-same.weights.h5")


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_predictions_are_equal_under_another_backend_and_its_files_come_back(files, backend):
    if not importlib.util.find_spec(backend):
        pytest.skip(f"{backend} is not installed")
    folder, expected = files
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, __file__, str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.split()[-1] == backend, done.stderr
    other, back = np.load(folder / "other.npz"), outputs(folder, "-other.weights.h5", "-back.weights.h5")
    for name, values in expected.items():
        assert values.std() > 1e-3, "a constant shows nothing"
        np.testing.assert_allclose(other[name], values, atol=1e-4)
        np.testing.assert_allclose(back[name], values, atol=1e-6)


if __name__ == "__main__":  # under the other backend
    folder = Path(sys.argv[1])
    np.savez(folder / "other.npz", **outputs(folder, ".weights.h5", "-other.weights.h5"))
    print(keras.backend.backend())
