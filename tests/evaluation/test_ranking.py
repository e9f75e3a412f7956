"""Weighted rank statistics agree with scikit-learn on the data and on every resample."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk

from covidcxnet.evaluation.bootstrap import Bootstrap
from covidcxnet.evaluation.ranking import GRID, concordance, rank


def _case(seed, images=80, ties=False):
    rng = np.random.default_rng(seed)
    positive = np.r_[True, False, rng.random(images - 2) < 0.4]
    scores = rng.normal(size=images) + positive
    return (np.round(scores) if ties else scores), positive, rng.integers(0, 40, images)


@pytest.mark.parametrize("ties", [False, True])
def test_every_resample_agrees_with_scikit_learn(ties):
    scores, positive, groups = _case(0, ties=ties)
    bootstrap = Bootstrap(groups, resamples=40)
    found = rank(scores, positive, bootstrap)
    for row, counts in enumerate(bootstrap.counts):
        weights = counts[bootstrap.index]
        assert found.auroc[row] == pytest.approx(sk.roc_auc_score(positive, scores, sample_weight=weights))
        expected = sk.average_precision_score(positive, scores, sample_weight=weights)
        assert found.average_precision[row] == pytest.approx(expected)


def test_curves_are_those_of_scikit_learn():
    scores, positive, groups = _case(1, ties=True)
    found = rank(scores, positive, Bootstrap(groups, resamples=2))
    rates, sensitivities, _ = sk.roc_curve(positive, scores, drop_intermediate=False)
    np.testing.assert_allclose(found.roc_points, np.stack([rates, sensitivities], axis=1))
    precision, recall, _ = sk.precision_recall_curve(positive, scores)
    pairs = {(round(r, 9), round(p, 9)) for r, p in zip(recall, precision, strict=True)}
    assert {(round(r, 9), round(p, 9)) for r, p in found.precision_recall_points} <= pairs


def test_curves_on_the_grid_rise_from_the_curve_of_the_data():
    scores, positive, groups = _case(2)
    found = rank(scores, positive, Bootstrap(groups, resamples=30))
    assert (np.diff(found.sensitivity, axis=1) >= 0).all()
    assert (found.sensitivity[:, -1] == 1).all()
    assert np.trapezoid(found.sensitivity[0], GRID) == pytest.approx(found.auroc[0], abs=0.02)
    assert found.precision.shape == (31, 101)
    assert (found.precision[:, -1] > 0).all()


def test_a_perfect_order_scores_one_and_its_mirror_zero():
    scores, positive = np.arange(20.0), np.arange(20) >= 12
    bootstrap = Bootstrap(None, 20, resamples=50)
    assert np.nanmin(rank(scores, positive, bootstrap).auroc) == 1
    assert np.nanmax(rank(-scores, positive, bootstrap).auroc) == 0


def test_one_class_alone_has_no_auroc():
    found = rank(np.arange(5.0), np.ones(5, bool), Bootstrap(None, 5, resamples=10))
    assert np.isnan(found.auroc).all() and np.isnan(found.average_precision).all()
    assert not len(found.roc_points)


def test_resamples_without_a_class_are_undefined():
    positive = np.arange(6) == 0
    bootstrap = Bootstrap(None, 6, resamples=200)
    found = rank(np.arange(6.0), positive, bootstrap)
    drawn = bootstrap.counts[:, 0] > 0
    assert 0 < (~drawn).sum() < 200
    np.testing.assert_array_equal(np.isnan(found.auroc), ~drawn | (bootstrap.counts[:, 1:].sum(axis=1) == 0))


def test_concordance_over_strata_compares_only_within_them():
    # In each stratum the order is right; between strata it is wrong.
    scores, positive = np.array([0.1, 0.2, 0.8, 0.9]), np.array([False, True, False, True])
    bootstrap = Bootstrap(None, 4, resamples=0)
    parts = [concordance(scores[s], positive[s], bootstrap, s) for s in (np.array([0, 1]), np.array([2, 3]))]
    right, pairs = (sum(column) for column in zip(*parts, strict=True))
    assert right[0] / pairs[0] == 1
    assert rank(scores, positive, bootstrap).auroc[0] == 0.75
