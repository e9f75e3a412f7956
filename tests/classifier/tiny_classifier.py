"""A classifier of a thousand weights, noise in place of radiographs, and a segmenter that finds two boxes."""

from __future__ import annotations

from types import SimpleNamespace

import cv2
import keras
import numpy as np

from covidcxnet.classifier import Classifier
from covidcxnet.settings import InputSettings
from segmentation.verdict import Verdict

SIZE = 32
SETTINGS = InputSettings(size=SIZE)


def tiny_model(outputs=1, size=SIZE, channels=3, seed=0):
    stack = keras.Input((size, size, channels))
    x = keras.layers.Conv2D(4, 3, strides=2, activation="relu", name="maps")(keras.ops.divide(stack, 255.0))
    x = keras.layers.GlobalAveragePooling2D()(x)
    output = keras.layers.Dense(outputs, activation="sigmoid" if outputs == 1 else "softmax")(x)
    model = keras.Model(stack, output, name="tiny")
    rng = np.random.default_rng(seed)
    model.set_weights([rng.normal(0, 1, w.shape) for w in model.get_weights()])
    return model


def small_classifier(outputs=1, settings=SETTINGS, segmenter=None, **metadata):
    """`segmenter` is one, or what the metadata say of it."""
    classes = ["normal", "covid19"] if outputs == 1 else ["normal", "pneumonia", "covid19"]
    metadata = {"classes": classes, "input": settings.to_dict(), **metadata}
    if isinstance(segmenter, dict):
        metadata["segmenter"], segmenter = segmenter, None
    return Classifier(tiny_model(outputs), metadata, segmenter=segmenter)


def noise(seed, height=50, width=40):
    return np.random.default_rng(seed).integers(0, 256, (height, width)).astype("uint8")


def noise_files(folder, count=5):
    paths = [folder / f"{n}.png" for n in range(count)]
    for n, path in enumerate(paths):
        cv2.imwrite(str(path), noise(n, 40 + n))
    return paths


class Boxes:
    """Lungs that are two boxes; trusted unless the radiograph is dark."""

    name, sha256 = "boxes", "0" * 64

    def predict(self, images):
        return [self._one(image) for image in images]

    def _one(self, image):
        mask = np.zeros(image.shape, bool)
        mask[10:30, 5:15] = mask[10:30, 22:34] = True
        trusted = bool(image.mean() > 20)
        verdict = Verdict(trusted, () if trusted else ("too dark",))
        return SimpleNamespace(mask=mask, box=(10, 5, 30, 34), verdict=verdict, error=None)
