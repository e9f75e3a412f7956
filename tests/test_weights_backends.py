"""One weights file, three backends: equal predictions, there and back."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

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

# What the other backend does: load, predict, save again.
SCRIPT = """
import sys
import numpy as np
import keras
import covidcxnet
from segmentation.model import unet
from weights.format import load_weights, save_weights
assert keras.backend.backend() == sys.argv[1], keras.backend.backend()
folder = sys.argv[2]
for name in sys.argv[3:]:
    classifier = covidcxnet.load_model(f"{folder}/{name}.weights.h5")
    np.save(f"{folder}/{name}.npy", classifier.predict_stacks(np.load(f"{folder}/{name}-in.npy")))
    save_weights(classifier.model, f"{folder}/{name}-back.weights.h5", classifier.metadata)
lungs = unet(2, size=32, batch_norm=True)
load_weights(lungs, f"{folder}/lungs.weights.h5")
np.save(f"{folder}/lungs.npy", keras.ops.convert_to_numpy(lungs(np.load(f"{folder}/lungs-in.npy"))))
save_weights(lungs, f"{folder}/lungs-back.weights.h5", {"kind": "segmenter"})
"""


def randomised(model, seed=0):
    """A model with batch-norm statistics too that are not their initial ones."""
    generator = np.random.default_rng(seed)
    model.set_weights(
        [
            generator.uniform(0.5, 1.5, a.shape) if a.ndim == 1 else generator.normal(0, a.size**-0.25, a.shape)
            for a in model.get_weights()
        ]
    )
    return model


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_predictions_are_equal_under_another_backend_and_its_files_come_back(tmp_path, backend):
    if not importlib.util.find_spec(backend):
        pytest.skip(f"{backend} is not installed")
    generator = np.random.default_rng(1)
    expected = {}
    for name, options in MODELS.items():
        shape = (3, options["size"], options["size"], options["channels"])
        stacks = generator.integers(0, 256, shape, dtype=np.uint8)
        np.save(tmp_path / f"{name}-in.npy", stacks)
        metadata = {
            "kind": "classifier",
            "architecture": {"name": name, "options": options},
            "classes": ["normal", "covid19"],
            "input": {"size": options["size"], "channels": ["raw"] * options["channels"]},
        }
        model = randomised(create(name, classes=("normal", "covid19"), **options))
        classifier = covidcxnet.load_model(save_weights(model, tmp_path / f"{name}.weights.h5", metadata))
        expected[name] = classifier.predict_stacks(stacks)
    lungs = randomised(unet(2, size=32, batch_norm=True))
    images = generator.integers(0, 256, (2, 32, 32, 1), dtype=np.uint8)
    np.save(tmp_path / "lungs-in.npy", images)
    save_weights(lungs, tmp_path / "lungs.weights.h5", {"kind": "segmenter"})
    expected["lungs"] = np.asarray(lungs(images))

    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, backend, str(tmp_path), *MODELS],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert done.returncode == 0, done.stderr
    for name, values in expected.items():
        assert values.std() > 1e-3, "a constant says nothing"
        np.testing.assert_allclose(np.load(tmp_path / f"{name}.npy"), values, atol=1e-4)
    for name in MODELS:
        back = covidcxnet.load_model(tmp_path / f"{name}-back.weights.h5")
        np.testing.assert_allclose(back.predict_stacks(np.load(tmp_path / f"{name}-in.npy")), expected[name], atol=1e-6)
    again = unet(2, size=32, batch_norm=True)
    load_weights(again, tmp_path / "lungs-back.weights.h5")
    np.testing.assert_allclose(np.asarray(again(images)), expected["lungs"], atol=1e-6)
