"""Figures of findings are scikit-learn's over known images; a finding that is never found is said aloud."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from covidcxnet.evaluation.bootstrap import Bootstrap
from covidcxnet.evaluation.description import Data, Model
from covidcxnet.evaluation.multilabel import MultilabelFindings
from covidcxnet.evaluation.multilabel_cases import choose_findings
from covidcxnet.evaluation.multilabel_metrics import FindingPredictions, measure_findings
from covidcxnet.evaluation.multilabel_page import write_findings_report

NAMES = ("mass", "effusion", "hernia")


@pytest.fixture(scope="module")
def predictions():
    random = np.random.default_rng(2)
    targets = (random.random((120, 3)) < (0.4, 0.2, 0.1)).astype(float)
    chances = np.clip(0.35 * targets + 0.6 * random.random(targets.shape), 0, 1)
    targets[random.random(targets.shape) < 0.15] = np.nan
    table = pd.DataFrame(
        {
            "path": [f"{i}.png" for i in range(120)],
            "label": "unknown",
            "patient": [f"p{i}" for i in random.integers(0, 60, 120)],
            "source": random.choice(["a", "b"], 120),
        }
    )
    return FindingPredictions(table, targets, chances, NAMES, np.array([0.5, 0.4, 0.999]))


@pytest.fixture(scope="module")
def measured(predictions):
    return measure_findings(predictions, Bootstrap(predictions.table["patient"], 120, resamples=200))


def test_each_figure_is_that_of_scikit_learn_over_the_images_where_the_finding_is_known(predictions, measured):
    for k, own in enumerate(measured.findings):
        known = ~np.isnan(predictions.targets[:, k])
        truth, chance = predictions.targets[known, k], predictions.probabilities[known, k]
        called = chance >= predictions.thresholds[k]
        expected = {
            "auroc": sk.roc_auc_score(truth, chance),
            "average_precision": sk.average_precision_score(truth, chance),
            "f1": sk.f1_score(truth, called, zero_division=0),
            "sensitivity": sk.recall_score(truth, called),
            "specificity": sk.recall_score(truth, called, pos_label=0),
        }
        for name, value in expected.items():
            assert own.figures[name].value == pytest.approx(value), (own.name, name)
            assert own.figures[name].low <= value <= own.figures[name].high
        assert (own.hits + own.misses, own.alarms + own.passes) == (own.present, own.absent)
        assert own.present + own.absent == known.sum()


def test_a_finding_that_is_never_found_counts_as_0_and_is_named(measured):
    assert measured.collapsed == ("hernia",)
    f1 = [own.figures["f1"].value for own in measured.findings]
    assert f1[2] == 0 and measured.macro["f1"].value == pytest.approx(np.mean(f1))


def test_a_finding_without_images_is_undefined_and_in_no_mean(predictions):
    targets = predictions.targets.copy()
    targets[:, 1] = np.where(np.isnan(targets[:, 1]), np.nan, 0)
    changed = FindingPredictions(predictions.table, targets, predictions.probabilities, NAMES, predictions.thresholds)
    found = measure_findings(changed, Bootstrap(None, 120, resamples=20))
    assert found.untested == ("effusion",) and np.isnan(found.findings[1].figures["f1"].value)
    others = [found.findings[k].figures["auroc"].value for k in (0, 2)]
    assert found.macro["auroc"].value == pytest.approx(np.mean(others))


def test_a_finding_that_nobody_knows_of_is_undefined(predictions):
    targets = predictions.targets.copy()
    targets[:, 0] = np.nan
    changed = FindingPredictions(predictions.table, targets, predictions.probabilities, NAMES, predictions.thresholds)
    own = measure_findings(changed, Bootstrap(None, 120, resamples=5)).findings[0]
    assert all(np.isnan(figure.value) for figure in own.figures.values()) and (own.present, own.absent) == (0, 0)


def test_cases_are_one_found_one_false_and_one_missed_of_each_finding(predictions, measured):
    for k, picks in choose_findings(predictions, measured):
        truth, called = predictions.targets[:, k], predictions.called[:, k]
        kinds = {(bool(truth[p.row] == 1), bool(called[p.row])) for p in picks}
        assert kinds <= {(True, True), (False, True), (True, False)} and len(kinds) == len(picks)
        assert all(p.correct == (truth[p.row] == 1 and called[p.row]) for p in picks)


def test_page_and_numbers_say_first_which_findings_are_never_found(predictions, measured, tmp_path):
    data = Data("made-up", "other", "", False, predictions.table.assign(part="other"), pd.DataFrame(
        {"path": [], "reason": []}))  # fmt: skip
    parts = pd.DataFrame([{"part": "other", "finding": n, "images": 9, "patients": 8} for n in (*NAMES, "all")])
    findings = MultilabelFindings(
        Model("small-cnn", "w.weights.h5", "ab" * 32, 10), data, predictions, measured, parts,
        resamples=200, seed=0, unknown_patients=0, threshold_from="as asked for", commands=("python evaluate.py w",),
    )  # fmt: skip
    report = write_findings_report(findings, tmp_path)
    page = report.path.read_text()
    assert page.index("1 of 3 findings never found: hernia") < page.index("AUROC, mean over findings")
    assert all(text in page for text in ("By finding", "Curves", "mass", "effusion"))
    numbers = json.loads(report.metrics_path.read_text())
    assert numbers["f1_zero"] == ["hernia"] and numbers["overall"]["macro_f1"]["value"] == measured.macro["f1"].value
    assert numbers["warnings"][0]["key"] == "f1_zero"
    assert "NEVER FOUND" in findings.summary()
    card = report.card_path.read_text()
    mass = measured.findings[0]
    assert "**Never found, and in the mean with an F1 of 0: hernia.**" in card and "python evaluate.py w" in card
    assert f"| mass | 0.5 | {mass.hits} | {mass.misses} | {mass.alarms} | {mass.passes} |" in card
    assert "card.md" in page and "| mass | 9 |" in card
    frame = pd.read_csv(report.predictions_path)
    np.testing.assert_array_equal(frame["mass"].isna(), np.isnan(predictions.targets[:, 0]))
