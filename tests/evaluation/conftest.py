"""Predictions, findings and runs to test with: made up, three classes or two, several images for some patients."""

from __future__ import annotations

import hashlib
from pathlib import Path

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


@pytest.fixture
def make_run(tmp_path, make_findings, monkeypatch):
    """Function that makes a finished run with a report of `predictions`."""
    import json

    import yaml

    from covidcxnet.evaluation import compare_entry
    from covidcxnet.training import Recipe

    # weights here are plain bytes: no network is built to count its operations
    monkeypatch.setattr(compare_entry, "_flops", lambda run, known: 2_000_000)

    def make(name: str, predictions: Predictions, **recipe) -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True)
        values = Recipe(data="table.csv", classes=predictions.classes, **recipe).to_dict()
        (folder / "recipe.yaml").write_text(yaml.safe_dump(values))
        (folder / "run.json").write_text(json.dumps({"status": "finished", "best_epoch": 2, "epoch": 3, "store": "no"}))
        paths = predictions.table["path"]
        pd.DataFrame({"path": paths, "split": "test"}).to_csv(folder / "split.csv", index=False)
        (folder / "log.csv").write_text(
            "epoch,loss,f1,val_loss,val_f1,val_auroc,seconds\n1,1,0.3,1,0.2,0.5,9\n2,0.8,0.5,0.9,0.4,0.8,3\n"
            "3,0.6,0.7,1.1,0.3,0.7,3\n"
        )
        (folder / "best.weights.h5").write_bytes(name.encode())
        sha256 = hashlib.sha256(name.encode()).hexdigest()
        findings = make_findings(predictions, resamples=20, model=Model("small-cnn", "w", sha256, 558_849))
        predictions.save(folder / "report" / "predictions.csv")
        (folder / "report" / "metrics.json").write_text(json.dumps(findings.to_json()))
        return folder

    return make


@pytest.fixture
def with_changes():
    """Function that gives predictions with other probabilities, or another table."""
    return _changed


@pytest.fixture
def worse():
    """Function that mixes noise into predictions."""
    return _worse


@pytest.fixture
def load_entries():
    """Function that loads runs as the comparison does, by the names of their folders."""
    from covidcxnet.evaluation.compare_entry import load_entry
    from covidcxnet.training import Run

    return lambda *runs: [load_entry(Run(run), Path(run).name, {}) for run in runs]


def _changed(predictions: Predictions, probabilities=None, table=None) -> Predictions:
    given = predictions.probabilities if probabilities is None else probabilities
    return Predictions(predictions.table if table is None else table, given, predictions.classes)


def _worse(predictions: Predictions) -> Predictions:
    rng = np.random.default_rng(5)
    mixed = 0.4 * predictions.probabilities + 0.6 * rng.dirichlet(np.ones(len(predictions.classes)), len(predictions))
    return _changed(predictions, mixed)
