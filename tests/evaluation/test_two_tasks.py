"""The four places where exclusive classes and independent findings truly differ; everything else is one path."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from covidcxnet.evaluation.bootstrap import Bootstrap
from covidcxnet.evaluation.metrics import measure
from covidcxnet.evaluation.predictions import Predictions, truth_of
from enhancement.errors import InputError

EXCLUSIVE = ("normal", "pneumonia", "covid19")
INDEPENDENT = ("mass", "effusion", "hernia")


def _exclusive(probabilities, targets, classes=EXCLUSIVE, threshold=0.5):
    """Predictions and metrics of classes that exclude each other; `targets` int [N]."""
    table = pd.DataFrame({"path": [f"{i}.png" for i in range(len(targets))], "label": np.array(classes)[targets]})
    cut = np.full(len(classes), threshold)
    p = Predictions(table, truth_of(table, classes), np.asarray(probabilities, float), classes, cut)
    return p, measure(p, Bootstrap(None, len(p), resamples=20))


def _independent(probabilities, truth, classes=INDEPENDENT, thresholds=0.5):
    """Predictions and metrics of independent findings; `truth` float [N, K] of 1, 0 and NaN."""
    table = pd.DataFrame({"path": [f"{i}.png" for i in range(len(truth))], "label": "unknown"})
    cut = np.broadcast_to(np.asarray(thresholds, float), len(classes))
    p = Predictions(table, np.asarray(truth, float), np.asarray(probabilities, float), classes, cut, "independent")
    return p, measure(p, Bootstrap(None, len(p), resamples=20))


def _figures(metrics):
    """Class to its figures, and the mean F1."""
    return {name: row.figures for name, row in metrics.by_class.items()}, metrics.overall["macro_f1"].value


def test_f1_of_a_class_never_predicted_is_0_and_of_a_class_without_images_undefined():
    """Alike for both, but an undefined F1 makes the mean of exclusive classes undefined; findings leave it out."""
    scores = np.array([[0.8, 0.1, 0.1], [0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.2, 0.7, 0.1]])
    never = _figures(_exclusive(scores, np.array([0, 0, 2, 1]))[1])
    assert never[0]["covid19"]["f1"].value == 0
    assert never[1] == pytest.approx((0.8 + 1 + 0) / 3)
    absent = _figures(_exclusive(scores, np.array([0, 0, 0, 1]))[1])
    assert np.isnan(absent[0]["covid19"]["f1"].value) and np.isnan(absent[1])
    truth = np.array([[1, 0, 1], [1, 0, 0], [0, 0, 0], [0, 1, 0]])
    never = _figures(_independent(scores, truth)[1])
    assert never[0]["hernia"]["f1"].value == 0
    assert never[1] == pytest.approx((0.8 + 1 + 0) / 3)
    absent = _figures(_independent(scores, truth * [1, 1, 0])[1])
    assert np.isnan(absent[0]["hernia"]["f1"].value) and absent[1] == pytest.approx(0.9)


def test_exclusive_classes_are_called_by_the_highest_probability_or_one_threshold_and_findings_by_their_own():
    scores = np.array([[0.40, 0.35, 0.25], [0.2, 0.2, 0.6]])
    assert _exclusive(scores, np.array([0, 2]))[0].predicted.tolist() == [0, 2]
    two = np.array([[0.65, 0.35], [0.75, 0.25]])
    assert _exclusive(two, np.array([0, 1]), EXCLUSIVE[::2], 0.3)[0].predicted.tolist() == [1, 0]
    called = _independent(scores, np.zeros((2, 3)), thresholds=(0.4, 0.3, 0.9))[0].called
    assert called.tolist() == [[True, True, False], [False, False, False]]


def test_auroc_of_two_exclusive_classes_is_that_of_the_second_column_alone():
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 2, 60)
    second = np.clip(0.3 * targets + 0.7 * rng.random(60), 0, 1)
    scores = np.stack([1 - second, second], axis=1)
    metrics = _exclusive(scores, targets, ("normal", "covid19"))[1]
    assert metrics.overall["auroc"].value == pytest.approx(sk.roc_auc_score(targets, second))
    assert metrics.overall["average_precision"].value == pytest.approx(sk.average_precision_score(targets, second))
    # Two findings have a mean of two.
    truth = np.stack([targets, rng.integers(0, 2, 60)], axis=1)
    metrics = _independent(scores, truth, ("mass", "hernia"))[1]
    expected = np.mean([sk.roc_auc_score(truth[:, k], scores[:, k]) for k in range(2)])
    assert metrics.overall["auroc"].value == pytest.approx(expected)


def test_an_unknown_label_leaves_the_image_out_of_the_figures_of_that_finding_alone():
    rng = np.random.default_rng(1)
    truth = (rng.random((80, 3)) < 0.4).astype(float)
    scores = np.clip(0.3 * truth + 0.7 * rng.random(truth.shape), 0, 1)
    truth[:30, 1] = np.nan
    figures = _figures(_independent(scores, truth)[1])[0]
    for k, name in enumerate(INDEPENDENT):
        known = ~np.isnan(truth[:, k])
        assert figures[name]["auroc"].value == pytest.approx(sk.roc_auc_score(truth[known, k], scores[known, k]))
        assert figures[name]["f1"].value == pytest.approx(sk.f1_score(truth[known, k], scores[known, k] >= 0.5))
    # Exclusive classes know no such label: every image has one of the classes.
    with pytest.raises(InputError, match="this model knows normal, covid19"):
        truth_of(pd.DataFrame({"path": ["a"], "label": ["unknown"]}), ("normal", "covid19"))
