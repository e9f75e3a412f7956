"""Figures of sources that training saw, of sources that it never saw and of single sources stand side by side."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from covidcxnet.evaluation.bootstrap import Bootstrap
from covidcxnet.evaluation.places import HELD_OUT, INTERNAL, WITHIN, compare_places

TWO, THREE = ("normal", "covid19"), ("normal", "pneumonia", "covid19")


def _data(classes, images=400, seed=0):
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, len(classes), images)
    scores = rng.normal(size=(images, len(classes)))
    sources = rng.choice(["nih", "cohen", "new"], images)
    scores[np.arange(images), targets] += np.where(sources == "new", 0.3, 1.5)
    p = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    return pd.DataFrame({"source": sources, "patient": rng.integers(0, 150, images)}), targets, p


def _places(table, targets, p, classes, resamples=200, **options):
    bootstrap = Bootstrap(table["patient"], len(table), resamples=resamples)
    return compare_places(table, targets, p, classes, bootstrap, **options)


def test_each_figure_is_the_auroc_of_its_own_images_and_the_gap_is_their_difference():
    table, targets, p = _data(TWO)
    found = _places(table, targets, p, TWO, seen_sources={"nih", "cohen"})
    auroc = {}
    for row in found.rows:
        own = table["source"].isin(row.sources).to_numpy()
        (c,) = row.comparisons
        assert c.auroc.value == pytest.approx(roc_auc_score(targets[own], p[own, 1]))
        assert c.auroc.low < c.auroc.value < c.auroc.high
        assert (c.positive, c.negative, c.score) == ("covid19", "normal", "P(covid19)")
        assert (c.positives, c.negatives) == ((targets[own] == 1).sum(), (targets[own] == 0).sum())
        assert row.patients == table["patient"][own].nunique()
        auroc.setdefault(row.kind, c.auroc.value)
    assert [r.kind for r in found.rows] == [INTERNAL, HELD_OUT, WITHIN, WITHIN, WITHIN]
    assert {r.sources[0]: r.seen for r in found.rows if r.kind == WITHIN} == {"nih": True, "cohen": True, "new": False}
    assert found.gap.auroc.value == pytest.approx(auroc[INTERNAL] - auroc[HELD_OUT])
    assert 0 < found.gap.auroc.low < found.gap.auroc.value < found.gap.auroc.high
    assert (found.gap.positive, found.gap.negative, found.gap.score) == ("covid19", "normal", "P(covid19)")


def test_the_gap_is_between_the_diseases_that_both_have():
    """COVID-19 that is easily told, and inside only, must not widen the gap of pneumonia."""
    table, targets, p = _data(THREE)
    keep = (table["source"] != "new").to_numpy() | (targets != 2)
    table, targets, p = table[keep].reset_index(drop=True), targets[keep], p[keep]
    inside = (table["source"] != "new").to_numpy()
    p[inside & (targets == 2)] = [0.001, 0.001, 0.998]
    found = _places(table, targets, p, THREE, seen_sources={"nih", "cohen"})
    assert found.rows[0].comparisons[0].positive == "covid19 or pneumonia"
    assert (found.gap.positive, found.gap.negative, found.gap.score) == ("pneumonia", "normal", "1 - P(normal)")
    one, other = (
        roc_auc_score(targets[own & (targets != 2)], 1 - p[own & (targets != 2), 0]) for own in (inside, ~inside)
    )
    assert found.gap.auroc.value == pytest.approx(one - other)
    assert found.rows[0].comparisons[0].auroc.value > one


def test_counted_images_stand_within_their_source_only():
    table, targets, p = _data(TWO)
    labelled = pd.Series(np.where(targets == 1, "covid19", "normal"), dtype=object)
    labelled[(table["source"] == "nih") & (targets == 1)] = "pneumonia"
    found = _places(table, targets, p, TWO, seen_sources={"nih", "cohen"}, labelled=labelled)
    internal = found.rows[0]
    own = (table["source"] != "new") & (labelled != "pneumonia")
    assert internal.images == own.sum() and "pneumonia" not in internal.by_label
    assert internal.comparisons[0].auroc.value == pytest.approx(roc_auc_score(targets[own], p[own, 1]))
    nih = next(r for r in found.rows if r.kind == WITHIN and r.sources == ("nih",))
    assert nih.comparisons[0].positive == "pneumonia"
    inside = (table["source"] == "nih").to_numpy()
    assert nih.comparisons[0].auroc.value == pytest.approx(roc_auc_score(targets[inside], p[inside, 1]))


def test_three_classes_are_compared_by_not_normal_and_pair_by_pair():
    table, targets, p = _data(THREE)
    inside = (table["source"] == "nih").to_numpy() & (targets != 2)
    keep = inside | (table["source"] == "cohen").to_numpy()
    table, targets, p = table[keep].reset_index(drop=True), targets[keep], p[keep]
    rows = {r.sources[0]: r for r in _places(table, targets, p, THREE, seen_sources=None).rows}
    nih, cohen = rows["nih"], rows["cohen"]
    assert [(c.positive, c.negative, c.score) for c in nih.comparisons] == [
        ("pneumonia", "normal", "1 - P(normal)"),
        ("pneumonia", "normal", "P(pneumonia)"),
    ]
    own = (table["source"] == "nih").to_numpy()
    assert nih.comparisons[0].auroc.value == pytest.approx(roc_auc_score(targets[own] > 0, 1 - p[own, 0]))
    assert nih.comparisons[1].auroc.value == pytest.approx(roc_auc_score(targets[own] > 0, p[own, 1]))
    pairs = [c.score for c in cohen.comparisons]
    assert pairs == ["1 - P(normal)", "P(pneumonia)", "P(covid19)", "P(covid19)"]
    last, own = cohen.comparisons[-1], (table["source"] == "cohen").to_numpy() & (targets > 0)
    assert (last.positive, last.negative) == ("covid19", "pneumonia")
    assert last.auroc.value == pytest.approx(roc_auc_score(targets[own] == 2, p[own, 2]))
    assert {r.seen for r in rows.values()} == {None}


def test_images_that_were_trained_on_are_in_no_figure():
    table, targets, p = _data(TWO)
    trained = np.arange(len(table)) < 100
    found = _places(table, targets, p, TWO, seen_sources={"nih"}, trained_on=trained)
    rest = _places(table[100:].reset_index(drop=True), targets[100:], p[100:], TWO, seen_sources={"nih"})
    assert found.skipped == 100
    values = [[c.auroc.value for r in f.rows for c in r.comparisons] for f in (found, rest)]
    assert values[0] == pytest.approx(values[1])


def test_an_image_of_unknown_source_is_neither_internal_nor_held_out():
    table, targets, p = _data(TWO)
    table.loc[table["source"] == "new", "source"] = None
    found = _places(table, targets, p, TWO, seen_sources={"nih"})
    assert {r.kind: r.sources for r in found.rows[:2]} == {INTERNAL: ("nih",), HELD_OUT: ("cohen",)}
    assert next(r for r in found.rows if r.sources == ("unknown",)).seen is None


def test_a_place_of_one_class_has_no_auroc_and_no_gap():
    table, targets, p = _data(TWO)
    targets = np.where(table["source"] == "new", 0, targets)
    found = _places(table, targets, p, TWO, seen_sources={"nih", "cohen"})
    held_out = found.rows[1]
    assert held_out.kind == HELD_OUT and held_out.comparisons == () and found.gap is None
    assert "calibration_error" in held_out.calibration


def test_without_sources_or_with_one_class_each_there_is_nothing_to_compare():
    table, targets, p = _data(TWO)
    assert _places(table.drop(columns="source"), targets, p, TWO, seen_sources=None) is None
    table["source"] = np.where(targets == 1, "cohen", "nih")
    assert _places(table, targets, p, TWO, seen_sources=None) is None
