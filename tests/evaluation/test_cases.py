"""The shown cases follow their rule: correct and wrong predictions of each class, no patient twice."""

from __future__ import annotations

import numpy as np
import pandas as pd

from covidcxnet.evaluation.cases import choose, lime_order
from covidcxnet.evaluation.predictions import Predictions, truth_of


def test_each_class_shows_its_most_confident_correct_and_wrong_predictions(make_predictions):
    p = make_predictions(images=300, patients=10_000)
    confidence = p.probabilities.max(axis=1)
    for c in range(3):
        own = [pick for pick in choose(p) if p.targets[pick.row] == c]
        assert [pick.correct for pick in own] == [True, True, False, False]
        for pick in own:
            assert (p.predicted[pick.row] == c) == pick.correct
        right, wrong = (p.targets == c) & (p.predicted == c), (p.targets == c) & (p.predicted != c)
        assert confidence[own[0].row] == confidence[right].max()
        assert confidence[own[2].row] == confidence[wrong].max()
        assert abs((confidence[right] >= confidence[own[1].row]).mean() - 0.5) < 0.05


def test_no_patient_is_shown_twice_within_a_class(make_predictions):
    p = make_predictions(images=200, patients=6)
    for c in range(3):
        shown = [p.table["patient"].iloc[pick.row] for pick in choose(p, wrong=3) if p.targets[pick.row] == c]
        assert len(shown) == len(set(shown))


def test_a_class_without_mistakes_shows_none():
    table = pd.DataFrame({"path": list("abc"), "label": ["normal", "covid19", "covid19"]})
    classes, scores = ("normal", "covid19"), np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]])
    picks = choose(Predictions(table, truth_of(table, classes), scores, classes, np.full(2, 0.5)))
    assert all(pick.correct for pick in picks)
    assert sorted(pick.row for pick in picks) == [0, 1, 2]


def test_lime_goes_to_the_mistakes_of_the_last_class_first(make_predictions):
    p = make_predictions(images=300)
    picks = choose(p)
    chosen = [picks[k] for k in lime_order(picks, p)[:4]]
    assert [p.classes[p.targets[pick.row]] for pick in chosen] == ["covid19", "pneumonia", "normal", "covid19"]
    assert [pick.correct for pick in chosen] == [False, False, False, True]


def test_cases_are_a_hit_a_false_positive_and_a_miss_of_each_finding(findings):
    picks = choose(findings)
    for k in range(3):
        shown = [p for p in picks if p.target == k]
        kinds = {(findings.truth[p.row, k] == 1, bool(findings.called[p.row, k])) for p in shown}
        assert kinds <= {(True, True), (False, True), (True, False)} and len(kinds) == len(shown) > 0
        assert all(p.correct == (findings.truth[p.row, k] == 1 and findings.called[p.row, k]) for p in shown)
    assert lime_order(picks, findings) == []
