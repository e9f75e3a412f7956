"""Predictions, findings and runs to test with: made up, three classes or two, several images for some patients."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from covidcxnet.evaluation.bootstrap import Bootstrap
from covidcxnet.evaluation.description import Data, Model
from covidcxnet.evaluation.findings import Findings
from covidcxnet.evaluation.metrics import measure
from covidcxnet.evaluation.predictions import Predictions
from covidcxnet.evaluation.sources import by_source

CLASSES = ("normal", "pneumonia", "covid19")


def _predictions(images=120, classes=CLASSES, seed=0, patients=70, sources=("nih", "cohen"), **columns) -> Predictions:
    rng = np.random.default_rng(seed)
    targets = np.r_[np.arange(len(classes)), rng.integers(0, len(classes), images - len(classes))]
    scores = rng.normal(size=(images, len(classes)))
    scores[np.arange(images), targets] += 1.5
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    table = pd.DataFrame(
        {
            "path": [f"images/{i:04}.png" for i in range(images)],
            "label": np.array(classes)[targets],
            "patient": [f"p{i}" for i in rng.integers(0, patients, images)],
            "source": rng.choice(sources, images),
        }
    ).assign(**columns)
    return Predictions(table, probabilities, tuple(classes))


def _findings(predictions: Predictions | None = None, resamples=100, data=None, **changes) -> Findings:
    predictions = _predictions() if predictions is None else predictions
    bootstrap = Bootstrap(predictions.column("patient"), len(predictions), resamples=resamples)
    truth = (predictions.targets, predictions.probabilities)
    described = {
        "name": "made-up",
        "split": "test",
        "split_by": "patient",
        "phantom": False,
        "parts": predictions.table.assign(part="test"),
        "rejected": pd.DataFrame({"path": [], "reason": []}),
    } | (data or {})
    values = {
        "model": Model("small-cnn", "best.weights.h5", "ab" * 32, 558_849),
        "data": Data(**described),
        "predictions": predictions,
        "metrics": measure(*truth, predictions.classes, bootstrap, predictions.predicted),
        "sources": by_source(
            predictions.column("source"), *truth, predictions.predicted, predictions.classes, bootstrap
        ),
        "resamples": resamples,
        "seed": 0,
        "unknown_patients": bootstrap.unknown,
        "commands": ("python evaluate.py runs/a --split test",),
        "created": "2026-01-02 03:04",
    } | changes
    return Findings(**values)


@pytest.fixture
def make_predictions():
    """Function that makes predictions."""
    return _predictions


@pytest.fixture
def make_findings():
    """Function that makes findings."""
    return _findings
