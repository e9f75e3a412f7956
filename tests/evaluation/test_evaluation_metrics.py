"""Figures agree with scikit-learn, are NaN where undefined, and count what was missed by name."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from sklearn import metrics as sk

from covidcxnet.evaluation.bootstrap import Bootstrap
from covidcxnet.evaluation.calibration import reliability
from covidcxnet.evaluation.metrics import measure


def _measured(predictions, resamples=50):
    bootstrap = Bootstrap(predictions.column("patient"), len(predictions), resamples=resamples)
    truth = (predictions.targets, predictions.probabilities)
    return measure(*truth, predictions.classes, bootstrap, predictions.predicted)


def test_figures_of_three_classes_agree_with_scikit_learn(make_predictions):
    p = make_predictions()
    found, targets, called, scores = _measured(p), p.targets, p.predicted, p.probabilities
    one_hot = np.eye(3)[targets]
    assert found.overall["accuracy"].value == pytest.approx(sk.accuracy_score(targets, called))
    assert found.overall["balanced_accuracy"].value == pytest.approx(sk.balanced_accuracy_score(targets, called))
    assert found.overall["macro_f1"].value == pytest.approx(sk.f1_score(targets, called, average="macro"))
    assert found.overall["auroc"].value == pytest.approx(sk.roc_auc_score(targets, scores, multi_class="ovr"))
    assert found.overall["average_precision"].value == pytest.approx(sk.average_precision_score(one_hot, scores))
    assert found.overall["brier"].value == pytest.approx(((scores - one_hot) ** 2).sum(axis=1).mean())
    np.testing.assert_array_equal(found.confusion, sk.confusion_matrix(targets, called))
    precision, recall, f1, _ = sk.precision_recall_fscore_support(targets, called)
    for c, name in enumerate(p.classes):
        row = found.by_class[name]
        assert row["precision"].value == pytest.approx(precision[c])
        assert row["sensitivity"].value == pytest.approx(recall[c])
        assert row["f1"].value == pytest.approx(f1[c])
        others, not_called = targets != c, called != c
        assert row["specificity"].value == pytest.approx(sk.recall_score(others, not_called))
        assert row["npv"].value == pytest.approx(sk.precision_score(others, not_called))
        assert row["auroc"].value == pytest.approx(sk.roc_auc_score(targets == c, scores[:, c]))


def test_figures_of_two_classes_are_those_of_the_second(make_predictions):
    p = make_predictions(classes=("normal", "covid19"))
    found = _measured(p)
    assert found.overall["auroc"].value == pytest.approx(sk.roc_auc_score(p.targets, p.probabilities[:, 1]))
    expected = sk.average_precision_score(p.targets, p.probabilities[:, 1])
    assert found.overall["average_precision"].value == pytest.approx(expected)
    assert found.overall["brier"].value == pytest.approx(sk.brier_score_loss(p.targets, p.probabilities[:, 1]))
    assert found.by_class["normal"]["sensitivity"] == found.by_class["covid19"]["specificity"]


def test_every_figure_lies_in_an_interval(make_predictions):
    found = _measured(make_predictions(), resamples=300)
    named = {**found.overall, **{f"{c}.{k}": e for c, row in found.by_class.items() for k, e in row.items()}}
    for name, e in named.items():
        assert e.low < e.high, name
        # A calibration error is biased upwards by resampling: its interval may lie above it.
        assert e.low <= e.value <= e.high or "calibration" in name, name


def test_an_absent_class_leaves_its_figures_undefined_and_others_defined(make_predictions):
    p = make_predictions()
    keep = p.targets != 1
    bootstrap = Bootstrap(None, int(keep.sum()), resamples=20)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = measure(p.targets[keep], p.probabilities[keep], p.classes, bootstrap)
    assert math.isnan(found.by_class["pneumonia"]["sensitivity"].value)
    assert math.isnan(found.by_class["pneumonia"]["auroc"].value)
    assert math.isnan(found.overall["auroc"].value) and math.isnan(found.overall["balanced_accuracy"].value)
    assert 0 < found.overall["accuracy"].value < 1
    assert found.by_class["covid19"]["auroc"].value > 0.5


def test_precision_of_a_class_never_called_is_undefined():
    targets, probabilities = np.array([0, 1, 1]), np.array([[0.9, 0.1]] * 3)
    found = measure(targets, probabilities, ("normal", "covid19"), Bootstrap(None, 3, resamples=10))
    assert math.isnan(found.by_class["covid19"]["precision"].value)
    assert found.by_class["covid19"]["sensitivity"].value == 0
    assert found.by_class["covid19"]["f1"].value == 0


def test_diseases_called_normal_are_counted_by_name():
    targets = np.array([0, 1, 1, 1, 2, 2])
    called = np.array([0, 0, 1, 2, 0, 0])
    found = measure(
        targets, np.eye(3)[called], ("normal", "pneumonia", "covid19"), Bootstrap(None, 6, resamples=10), called
    )
    assert [str(m) for m in found.missed] == ["pneumonia called normal: 1 of 3", "covid19 called normal: 2 of 2"]
    assert found.missed[0].rate.value == pytest.approx(1 / 3)


def test_without_a_class_named_normal_nothing_is_called_so(make_predictions):
    assert _measured(make_predictions(classes=("pneumonia", "covid19"))).missed == ()


def test_calibration_error_of_honest_probabilities_is_small_and_of_overconfident_ones_is_not():
    rng = np.random.default_rng(0)
    honest = rng.random(20_000)
    outcome = rng.random(20_000) < honest
    bootstrap = Bootstrap(None, 20_000, resamples=0)
    assert reliability(honest, outcome, bootstrap).error[0] < 0.02
    sure = np.where(honest > 0.5, 0.99, 0.01)
    assert reliability(sure, outcome, bootstrap).error[0] == pytest.approx(0.24, abs=0.02)


def test_reliability_bins_hold_every_image_once():
    probability = np.array([0.0, 0.05, 0.1, 0.999, 1.0])
    found = reliability(probability, np.array([0, 0, 1, 1, 1], bool), Bootstrap(None, 5, resamples=5))
    assert found.images.tolist() == [2, 1, 0, 0, 0, 0, 0, 0, 0, 2]
    assert math.isnan(found.observed[5])
    assert found.observed[9] == 1
