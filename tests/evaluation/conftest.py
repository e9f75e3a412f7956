"""Made-up predictions and reports: exclusive classes or independent findings, several images for some patients."""

import functools
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from covidcxnet.evaluation import evaluator, plots
from covidcxnet.evaluation.bootstrap import Bootstrap
from covidcxnet.evaluation.by_source import by_source
from covidcxnet.evaluation.cautions import cautions
from covidcxnet.evaluation.metrics import measure
from covidcxnet.evaluation.predictions import Predictions, truth_of
from covidcxnet.evaluation.report import Data, Model, Report

CLASSES = ("normal", "pneumonia", "covid19")
FINDINGS = ("mass", "effusion", "hernia")


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
    return Predictions(table, truth_of(table, classes), probabilities, tuple(classes), np.full(len(classes), 0.5))


def _findings() -> Predictions:
    """Mass everywhere, no effusion in `b`, hernia in all of `b` and in none elsewhere; every eighth unknown."""
    random = np.random.default_rng(4)
    sources = np.array(["a"] * 90 + ["b"] * 60 + ["c"] * 50, dtype=object)
    truth = (random.random((200, 3)) < np.where(sources == "a", 0.3, 0.6)[:, None]).astype(float)
    truth[sources == "b", 1], truth[:, 2] = 0, sources == "b"
    scores = np.clip(0.3 * truth + 0.7 * random.random(truth.shape), 0, 1)
    truth[::8] = np.nan
    table = pd.DataFrame(
        {
            "path": [f"{i}.png" for i in range(200)],
            "label": "unknown",
            "patient": [f"p{i}" for i in random.integers(0, 120, 200)],
            "source": sources,
        }
    )
    return Predictions(table, truth, scores, FINDINGS, np.array([0.5, 0.4, 0.999]), "independent")


def _report(
    predictions: Predictions | None = None, resamples=20, data=None, folder=Path("report"), sites=None, **changes
) -> Report:
    p = _predictions() if predictions is None else predictions
    draws = Bootstrap(p.column("patient"), len(p), resamples=resamples)
    part = draws.part(np.flatnonzero(~p.ungraded))
    described = {
        "name": "made-up",
        "split": "test",
        "split_by": "patient",
        "phantom": False,
        "parts": p.table.assign(part="test"),
        "rejected": pd.DataFrame({"path": [], "reason": []}),
    }
    if p.task == "independent":
        counts = [int(n) for n in (p.truth == 1).sum(axis=0)]
        rows = zip((*p.classes, "all"), (*counts, len(p)), strict=True)
        described["findings"] = pd.DataFrame([("test", f, n, None) for f, n in rows]).set_axis(
            ["part", "finding", "images", "patients"], axis=1
        )
    values = {
        "by_source": by_source(p, draws, **(sites or {})),
        "resamples": resamples,
        "seed": 0,
        "unknown_patients": part.unknown,
        "commands": ("python evaluate.py runs/a --split test",),
        "created": "2026-01-02 03:04",
    } | changes
    model = Model("small-cnn", "best.weights.h5", "ab" * 32, 558_849)
    report = Report(folder, model, Data(**described | (data or {})), p, measure(p.graded, part), **values)
    return replace(report, cautions=cautions(report))


@pytest.fixture(scope="session", autouse=True)
def quick():
    """Pages have no plots, which take most of their time (`test_report` draws each), and weights are loaded once."""
    stubs = {name: lambda *_: "" for name in ("roc", "precision_recall", "finding_intervals", "learning_curves")}
    stubs |= {"drawn_classes": plots.drawn_classes, "learned": plots.learned, "reliability": lambda metrics: ""}
    stubs["finding_curves"] = lambda metrics: "" if any(row.curve for row in metrics.by_class.values()) else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("covidcxnet.evaluation.page.plots", SimpleNamespace(**stubs))
        patch.setattr("covidcxnet.evaluation.page.data_uri", lambda figure: "data:image/svg+xml;base64,PHN2Zy8+")
        patch.setattr("covidcxnet.evaluation.evaluator.load_model", functools.cache(evaluator.load_model))
        yield


@pytest.fixture(scope="session")
def make_predictions():
    """Function that makes predictions of exclusive classes."""
    return _predictions


@pytest.fixture
def findings():
    """Predictions of independent findings in three sources."""
    return _findings()


@pytest.fixture(scope="session")
def make_report():
    """Function that makes a report of predictions."""
    return _report
