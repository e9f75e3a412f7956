"""Predictions hold together; figures agree with scikit-learn, are NaN where undefined, and name what was missed."""

import io
import math
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from covidcxnet.evaluation.bootstrap import Bootstrap
from covidcxnet.evaluation.calibration import reliability
from covidcxnet.evaluation.metrics import measure
from covidcxnet.evaluation.predictions import Predictions, truth_of
from covidcxnet.evaluation.thresholds import youden_threshold
from enhancement.errors import InputError

TWO, THREE = ("normal", "covid19"), ("normal", "pneumonia", "covid19")


def _measured(predictions, resamples=50):
    return measure(predictions, Bootstrap(predictions.column("patient"), len(predictions), resamples=resamples))


def _exclusive(targets, probabilities, classes=THREE):
    table = pd.DataFrame({"path": "a.png", "label": np.array(classes)[targets]})
    truth, scores = truth_of(table, classes), np.asarray(probabilities, float)
    return Predictions(table, truth, scores, classes, np.full(len(classes), 0.5))


def _independent(truth, probabilities, classes=("mass", "effusion", "hernia")):
    table, cut = pd.DataFrame({"path": ["a.png"] * len(truth), "label": "unknown"}), np.full(len(classes), 0.5)
    return Predictions(table, np.asarray(truth, float), probabilities, classes, cut, "independent")


def test_figures_of_three_classes_agree_with_scikit_learn_and_lie_in_their_intervals(make_predictions):
    p = make_predictions()
    m, targets, called, scores = _measured(p, 300), p.targets, p.predicted, p.probabilities
    expected = {
        "accuracy": sk.accuracy_score(targets, called),
        "balanced_accuracy": sk.balanced_accuracy_score(targets, called),
        "macro_f1": sk.f1_score(targets, called, average="macro"),
        "auroc": sk.roc_auc_score(targets, scores, multi_class="ovr"),
        "average_precision": sk.average_precision_score(p.truth, scores),
        "brier": ((scores - p.truth) ** 2).sum(axis=1).mean(),
    }
    assert {name: m.overall[name].value for name in expected} == pytest.approx(expected)
    np.testing.assert_array_equal(m.confusion, sk.confusion_matrix(targets, called))
    named = {**m.overall, **{f"{c}.{k}": e for c, row in m.by_class.items() for k, e in row.figures.items()}}
    for name, e in named.items():
        assert e.low < e.high, name
        # A calibration error is biased upwards by resampling: its interval may lie above it.
        assert e.low <= e.value <= e.high or "calibration" in name, name


@pytest.mark.parametrize("task", ["exclusive", "independent"])
def test_figures_of_each_class_are_those_of_scikit_learn_over_the_images_where_it_is_known(
    make_predictions, findings, task
):
    p = make_predictions() if task == "exclusive" else findings
    m = _measured(p, 200)
    for k, (name, row) in enumerate(m.by_class.items()):
        known = ~np.isnan(p.truth[:, k])
        truth, score, called = p.truth[known, k], p.probabilities[known, k], p.called[known, k]
        expected = {
            "auroc": sk.roc_auc_score(truth, score),
            "average_precision": sk.average_precision_score(truth, score),
            "f1": sk.f1_score(truth, called, zero_division=0),
            "sensitivity": sk.recall_score(truth, called),
            "specificity": sk.recall_score(truth, called, pos_label=0),
            "precision": sk.precision_score(truth, called, zero_division=np.nan),
            "npv": sk.precision_score(truth, called, pos_label=0),
        }
        for figure, value in expected.items():
            estimate = row.figures[figure]
            assert estimate.value == pytest.approx(value, nan_ok=True), (name, figure)
            assert math.isnan(value) or estimate.low <= value <= estimate.high
        sides = (truth == 1).sum(), (truth == 0).sum()
        assert (row.tp + row.fn, row.fp + row.tn) == (row.present, row.absent) == sides


def test_an_absent_class_leaves_its_figures_undefined_and_others_defined(make_predictions):
    p = make_predictions()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        m = _measured(p.only(np.flatnonzero(p.targets != 1)), 20)
    absent = m.by_class["pneumonia"].figures
    assert math.isnan(absent["sensitivity"].value) and math.isnan(absent["auroc"].value)
    assert math.isnan(m.overall["auroc"].value) and math.isnan(m.overall["balanced_accuracy"].value)
    assert 0 < m.overall["accuracy"].value < 1
    assert m.by_class["covid19"].figures["auroc"].value > 0.5


@pytest.mark.parametrize("task, of_never, of_absent", [("exclusive", 1.8 / 3, math.nan), ("independent", 1.8 / 3, 0.9)])
def test_f1_of_a_class_never_predicted_is_0_and_of_a_class_without_images_undefined(task, of_never, of_absent):
    """Alike for both, but an undefined F1 makes the mean of exclusive classes undefined; findings leave it out."""
    scores = np.array([[0.8, 0.1, 0.1], [0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.2, 0.7, 0.1]])
    findings = np.array([[1, 0, 1], [1, 0, 0], [0, 0, 0], [0, 1, 0]])
    exclusive = task == "exclusive"
    never = _measured(_exclusive(np.array([0, 0, 2, 1]), scores) if exclusive else _independent(findings, scores))
    figures = never.by_class[never.classes[2]].figures
    assert (figures["f1"].value, figures["sensitivity"].value) == (0, 0) and math.isnan(figures["precision"].value)
    assert never.overall["macro_f1"].value == pytest.approx(of_never) and never.never_found == never.classes[2:]
    absent = _exclusive(np.array([0, 0, 0, 1]), scores) if exclusive else _independent(findings * [1, 1, 0], scores)
    absent = _measured(absent)
    assert math.isnan(absent.by_class[absent.classes[2]].figures["f1"].value)
    assert absent.overall["macro_f1"].value == pytest.approx(of_absent, nan_ok=True)


def test_a_finding_without_images_or_that_nobody_knows_of_is_undefined_and_in_no_mean(findings):
    truth = findings.truth.copy()
    truth[:, 1], truth[:, 2] = np.where(np.isnan(truth[:, 1]), np.nan, 0), np.nan
    m = _measured(replace(findings, truth=truth), 20)
    mass, effusion, hernia = m.by_class.values()
    assert m.untested == ("effusion", "hernia") and math.isnan(effusion.figures["f1"].value)
    assert all(math.isnan(e.value) for e in hernia.figures.values()) and (hernia.present, hernia.absent) == (0, 0)
    assert m.overall["auroc"].value == pytest.approx(mass.figures["auroc"].value)


def test_exclusive_classes_are_called_by_the_highest_probability_or_one_threshold_and_findings_by_their_own():
    scores = np.array([[0.40, 0.35, 0.25], [0.2, 0.2, 0.6]])
    assert _exclusive(np.array([0, 2]), scores).predicted.tolist() == [0, 2]
    two = _exclusive(np.array([0, 1]), [[0.65, 0.35], [0.75, 0.25]], TWO)
    assert two.predicted.tolist() == [0, 0]
    assert replace(two, thresholds=np.full(2, 0.3)).predicted.tolist() == [1, 0]
    called = replace(_independent(np.zeros((2, 3)), scores), thresholds=np.array([0.4, 0.3, 0.9])).called
    assert called.tolist() == [[True, True, False], [False, False, False]]


def test_figures_of_two_exclusive_classes_are_those_of_the_second_and_of_two_findings_the_mean():
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 2, 60)
    second = np.clip(0.3 * targets + 0.7 * rng.random(60), 0, 1)
    scores = np.stack([1 - second, second], axis=1)
    m = _measured(_exclusive(targets, scores, TWO))
    assert m.overall["auroc"].value == pytest.approx(sk.roc_auc_score(targets, second))
    assert m.overall["average_precision"].value == pytest.approx(sk.average_precision_score(targets, second))
    assert m.overall["brier"].value == pytest.approx(sk.brier_score_loss(targets, second))
    assert m.by_class["normal"].figures["sensitivity"] == m.by_class["covid19"].figures["specificity"]
    truth = np.stack([targets, rng.integers(0, 2, 60)], axis=1)
    auroc = _measured(_independent(truth, scores, ("mass", "hernia"))).overall["auroc"].value
    assert auroc == pytest.approx(np.mean([sk.roc_auc_score(truth[:, k], scores[:, k]) for k in range(2)]))


def test_diseases_called_normal_are_counted_by_name_where_there_is_such_a_class(make_predictions):
    m = _measured(_exclusive(np.array([0, 1, 1, 1, 2, 2]), np.eye(3)[[0, 0, 1, 2, 0, 0]]), 10)
    assert [str(x) for x in m.missed] == ["pneumonia called normal: 1 of 3", "covid19 called normal: 2 of 2"]
    assert m.missed[0].rate.value == pytest.approx(1 / 3)
    assert _measured(make_predictions(classes=("pneumonia", "covid19"))).missed == ()


def test_calibration_error_is_small_for_honest_probabilities_and_bins_hold_every_image_once():
    rng = np.random.default_rng(0)
    honest = rng.random(20_000)
    outcome = rng.random(20_000) < honest
    bootstrap = Bootstrap(None, 20_000, resamples=0)
    assert reliability(honest, outcome, bootstrap).error[0] < 0.02
    sure = np.where(honest > 0.5, 0.99, 0.01)
    assert reliability(sure, outcome, bootstrap).error[0] == pytest.approx(0.24, abs=0.02)
    probability = np.array([0.0, 0.05, 0.1, 0.999, 1.0])
    bins = reliability(probability, np.array([0, 0, 1, 1, 1], bool), Bootstrap(None, 5, resamples=5))
    assert bins.images.tolist() == [2, 1, 0, 0, 0, 0, 0, 0, 0, 2]
    assert math.isnan(bins.observed[5]) and bins.observed[9] == 1


def _two(probability, labels):
    table = pd.DataFrame({"path": [f"{i}.png" for i in range(len(labels))], "label": labels})
    scores = np.stack([1 - np.asarray(probability), probability], axis=1)
    return Predictions(table, truth_of(table, TWO), scores, TWO, np.full(2, 0.5))


def test_saved_table_has_a_row_an_image_and_columns_a_class_or_finding(make_predictions, findings):
    p = make_predictions(lungs_trusted=True)
    read = pd.read_csv(io.StringIO(p.to_csv()))
    columns = "path patient source label predicted p_normal p_pneumonia p_covid19 lungs_trusted"
    assert read.columns.tolist() == columns.split()
    assert len(read) == len(p)
    np.testing.assert_allclose(read["p_covid19"], p.probabilities[:, 2], atol=1e-6)
    assert read["lungs_trusted"].all()
    read = pd.read_csv(io.StringIO(findings.to_csv()))
    assert read.columns.tolist()[:6] == ["path", "patient", "source", "mass", "called_mass", "p_mass"]
    np.testing.assert_array_equal(read["mass"].isna(), np.isnan(findings.truth[:, 0]))
    np.testing.assert_array_equal(read["called_mass"], findings.called[:, 0])
    # unknown columns stay empty
    frame = _two([0.2, 0.9], ["normal", "covid19"]).to_frame()
    assert frame["patient"].isna().all() and frame["lungs_trusted"].isna().all()


@pytest.mark.parametrize(
    "probability, labels, message",
    [
        ([], [], "0 images"),
        ([0.5, 0.5], ["normal", "tb"], "label 'tb'.*normal, covid19"),
        ([0.5, math.nan], ["normal", "covid19"], r"1\.png: the model's output is not a number"),
    ],
)
def test_no_image_an_unknown_label_and_a_probability_that_is_no_number_are_refused(probability, labels, message):
    with pytest.raises(InputError, match=message):
        _two(probability, labels)


def test_youden_threshold_is_the_best_of_all_and_needs_both_classes():
    assert youden_threshold(np.array([0.1, 0.2, 0.6, 0.9]), np.array([0, 0, 1, 1])) == pytest.approx(0.4)
    rng = np.random.default_rng(0)
    positive = rng.random(200) < 0.3
    probability = np.clip(rng.normal(0.3 + 0.2 * positive, 0.15), 0, 1)

    def youden(cut):
        called = probability >= cut
        return called[positive].mean() - called[~positive].mean()

    assert youden(youden_threshold(probability, positive)) == pytest.approx(max(youden(c) for c in probability))
    with pytest.raises(InputError, match="both classes"):
        youden_threshold(np.array([0.1, 0.9]), np.array([True, True]))
