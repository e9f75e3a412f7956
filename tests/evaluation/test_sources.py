"""Figures by source see through a model that recognises the place."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from covidcxnet.evaluation.bootstrap import Bootstrap
from covidcxnet.evaluation.sources import by_source

TWO = ("normal", "covid19")


def _found(sources, targets, scores, classes=TWO, resamples=50):
    probabilities = np.stack([1 - scores, scores], axis=1) if scores.ndim == 1 else scores
    called = probabilities.argmax(axis=1)
    bootstrap = Bootstrap(None, len(targets), resamples=resamples)
    return by_source(sources, targets, probabilities, called, classes, bootstrap)


def test_a_model_that_knows_only_the_place_scores_half_within_sources():
    rng = np.random.default_rng(0)
    place = rng.integers(0, 2, 400)
    targets = (rng.random(400) < np.where(place == 1, 0.9, 0.1)).astype(int)
    scores = 0.3 + 0.4 * place + 0.01 * rng.random(400)
    found = _found(np.where(place == 1, "cohen", "nih"), targets, scores)
    assert roc_auc_score(targets, scores) > 0.85
    assert found.place_alone == pytest.approx(roc_auc_score(targets, place), abs=0.001)
    assert found.within.low < 0.5 < found.within.high
    assert found.unshared == () and found.alone == ()


def test_auroc_of_a_source_is_that_of_its_images(make_predictions):
    p = make_predictions(classes=TWO)
    bootstrap = Bootstrap(p.column("patient"), resamples=30)
    found = by_source(p.column("source"), p.targets, p.probabilities, p.predicted, p.classes, bootstrap)
    for row in found.rows:
        own = (p.table["source"] == row.name).to_numpy()
        assert row.auroc.value == pytest.approx(roc_auc_score(p.targets[own], p.probabilities[own, 1]))
        assert row.accuracy.value == pytest.approx((p.predicted == p.targets)[own].mean())
        assert row.images == own.sum() and row.patients == p.table["patient"][own].nunique()
    assert sum(row.images for row in found.rows) == len(p)


def test_classes_that_share_no_source_are_named():
    found = _found(["a", "a", "b", "b"], np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.8, 0.9]))
    assert found.unshared == (("normal", "covid19"),)
    assert found.alone == TWO
    assert found.place_alone == 1
    assert math.isnan(found.within.value)
    assert all(math.isnan(row.auroc.value) for row in found.rows)


def test_a_class_alone_in_its_source_is_left_out_of_the_figure_within():
    targets = np.array([0, 1, 0, 1, 2, 2])
    scores = np.eye(3)[[0, 1, 0, 1, 2, 2]] * 0.8 + 0.1
    found = _found(["a", "a", "a", "a", "b", "b"], targets, scores, ("normal", "pneumonia", "covid19"))
    assert found.within.value == 1
    assert found.alone == ("covid19",)
    assert ("normal", "covid19") in found.unshared and ("normal", "pneumonia") not in found.unshared


def test_no_source_gives_no_figures_and_a_missing_one_is_unknown():
    targets, scores = np.array([0, 1, 0]), np.array([0.2, 0.7, 0.4])
    assert _found(None, targets, scores) is None
    assert _found([None, "", None], targets, scores) is None
    assert {row.name for row in _found(["a", "a", None], targets, scores).rows} == {"a", "unknown"}


def test_a_source_that_training_never_saw_is_marked_on_the_page(make_findings, make_predictions):
    from covidcxnet.evaluation.sections import sources

    p = make_predictions(classes=TWO)
    bootstrap = Bootstrap(p.column("patient"), resamples=30)
    names = p.column("source")
    seen, *rest = names.unique()
    arguments = (names, p.targets, p.probabilities, p.predicted, p.classes, bootstrap)
    found = by_source(*arguments, trained={seen})
    assert {row.name: row.trained for row in found.rows} == {seen: True, **dict.fromkeys(rest, False)}
    page = str(sources(make_findings(p, sources=found)))
    assert page.count('<span class="note">not in training</span>') == len(rest) >= 1
    assert f"{rest[0]} <span" in page and f"{seen} <span" not in page
    unknown = by_source(*arguments)
    assert {row.trained for row in unknown.rows} == {None}
    assert "not in training" not in str(sources(make_findings(p, sources=unknown)))
