"""Intervals, rank statistics and calibration are those of theory and of scikit-learn, or undefined."""

import math

import numpy as np
import pytest
from scipy.stats import binom
from sklearn import metrics as sk
from sklearn.linear_model import LogisticRegression

from covidcxnet.evaluation.bootstrap import Bootstrap, Estimate, ratio
from covidcxnet.evaluation.calibration import calibration_slope, expected_error, reliability
from covidcxnet.evaluation.ranking import GRID, concordance, rank


def _proportion(hits, groups=None, resamples=4000) -> Estimate:
    bootstrap = Bootstrap(groups, len(hits), resamples=resamples, seed=1)
    sums = bootstrap.sums(np.stack([hits, np.ones(len(hits))], axis=1))
    return bootstrap.estimate(ratio(sums[:, 0], sums[:, 1]))


def test_interval_of_a_proportion_is_the_binomial_one_however_many_equal_images_a_patient_has():
    low, high = binom.ppf([0.025, 0.975], 60, 0.8) / 60
    for images in (1, 5):
        hits = np.repeat(np.arange(60) < 48, images)
        by_patient, by_image = _proportion(hits, np.repeat(np.arange(60), images)), _proportion(hits)
        assert by_patient.value == 0.8
        assert (by_patient.low, by_patient.high) == pytest.approx((low, high), abs=1 / 60)
        assert images == 1 or by_image.high - by_image.low < 0.6 * (by_patient.high - by_patient.low)


def test_about_95_of_100_intervals_hold_the_truth():
    rng = np.random.default_rng(5)
    held = 0
    for _trial in range(100):
        patients = rng.random(80) < 0.7
        interval = _proportion(np.repeat(patients, 2), np.repeat(np.arange(80), 2), resamples=200)
        held += interval.low <= 0.7 <= interval.high
    assert 0.88 <= held / 100 <= 0.99


def test_row_zero_is_the_data_each_resample_draws_as_many_patients_and_the_seed_decides_which():
    bootstrap = Bootstrap(["a", "b", "a", "c"], resamples=50)
    assert bootstrap.patients == 3 and bootstrap.sums(np.ones((4, 1)))[0, 0] == 4
    assert (bootstrap.counts[0] == 1).all() and (bootstrap.counts.sum(axis=1) == 3).all()
    # a patient's count is repeated for each of its images
    weights = np.concatenate(list(bootstrap.weights(np.array([0, 1, 2]))))
    np.testing.assert_array_equal(weights, bootstrap.counts[:, bootstrap.index[[0, 1, 0]]])
    first, again, other = (Bootstrap(None, 30, resamples=20, seed=s).counts for s in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_part_of_a_bootstrap_draws_the_same_patients_and_images_without_one_are_patients_of_their_own():
    whole = Bootstrap(["a", "b", "a", None, "c"], resamples=20)
    part = whole.part(np.array([2, 3]))
    assert part.patients == 2 and part.unknown == 1
    values = 10.0 ** np.arange(5)[:, None]
    masked = np.where(np.isin(np.arange(5), [2, 3])[:, None], values, 0)
    np.testing.assert_array_equal(part.sums(values[[2, 3]]), whole.sums(masked))
    unknown = Bootstrap(["a", None, "a", float("nan"), ""], resamples=5)
    assert (unknown.patients, unknown.unknown) == (4, 3) and Bootstrap(None, 7, resamples=5).patients == 7


def test_undefined_resamples_are_left_out_and_counted_and_what_is_undefined_is_no_number_in_json():
    estimate = Bootstrap(None, 10, resamples=4).estimate(np.array([0.5, 0.4, math.nan, 0.6, math.nan]))
    assert estimate.undefined == 2 and 0.4 <= estimate.low <= estimate.high <= 0.6
    assert math.isnan(ratio(np.array([0.0]), np.array([0.0]))[0])
    assert Estimate(math.nan).to_dict() == {"value": None, "low": None, "high": None, "undefined_resamples": 0}


def test_one_patient_or_no_resamples_give_a_figure_without_an_interval_and_no_images_none():
    for groups, resamples in ((["a", "a"], 4000), (None, 0)):
        estimate = _proportion(np.array([True, False]), groups, resamples)
        assert estimate.value == 0.5 and math.isnan(estimate.low) and math.isnan(estimate.high)
    for arguments, message in (((None, 0), "positive number of images"), (([],), "no images")):
        with pytest.raises(ValueError, match=message):
            Bootstrap(*arguments)


def _case(ties, images=80):
    rng = np.random.default_rng(2)
    positive = np.r_[True, False, rng.random(images - 2) < 0.4]
    scores = rng.normal(size=images) + positive
    return (np.round(scores) if ties else scores), positive, rng.integers(0, 40, images)


@pytest.mark.parametrize("ties", [False, True])
def test_every_resample_and_the_curves_agree_with_scikit_learn(ties):
    scores, positive, groups = _case(ties)
    bootstrap = Bootstrap(groups, resamples=40)
    ranked = rank(scores, positive, bootstrap)
    for row, counts in enumerate(bootstrap.counts):
        weights = counts[bootstrap.index]
        assert ranked.auroc[row] == pytest.approx(sk.roc_auc_score(positive, scores, sample_weight=weights))
        expected = sk.average_precision_score(positive, scores, sample_weight=weights)
        assert ranked.average_precision[row] == pytest.approx(expected)
    rates, sensitivities, _ = sk.roc_curve(positive, scores, drop_intermediate=False)
    np.testing.assert_allclose(ranked.roc_points, np.stack([rates, sensitivities], axis=1))
    precision, recall, _ = sk.precision_recall_curve(positive, scores)
    pairs = {(round(r, 9), round(p, 9)) for r, p in zip(recall, precision, strict=True)}
    assert {(round(r, 9), round(p, 9)) for r, p in ranked.precision_recall_points} <= pairs
    # on the grid they rise from the curve of the data
    assert (np.diff(ranked.sensitivity, axis=1) >= 0).all() and (ranked.sensitivity[:, -1] == 1).all()
    assert ties or np.trapezoid(ranked.sensitivity[0], GRID) == pytest.approx(ranked.auroc[0], abs=0.02)
    assert ranked.precision.shape == (41, 101) and (ranked.precision[:, -1] > 0).all()


def test_a_perfect_order_scores_1_its_mirror_0_and_a_class_alone_or_resamples_without_one_have_no_auroc():
    scores, positive = np.arange(20.0), np.arange(20) >= 12
    bootstrap = Bootstrap(None, 20, resamples=50)
    assert np.nanmin(rank(scores, positive, bootstrap).auroc) == 1
    assert np.nanmax(rank(-scores, positive, bootstrap).auroc) == 0
    alone = rank(scores, np.ones(20, bool), bootstrap)
    assert np.isnan(alone.auroc).all() and np.isnan(alone.average_precision).all()
    assert not len(alone.roc_points)
    bootstrap = Bootstrap(None, 6, resamples=200)
    ranked, drawn = rank(np.arange(6.0), np.arange(6) == 0, bootstrap), bootstrap.counts[:, 0] > 0
    assert 0 < (~drawn).sum() < 200
    np.testing.assert_array_equal(np.isnan(ranked.auroc), ~drawn | (bootstrap.counts[:, 1:].sum(axis=1) == 0))


def test_concordance_over_strata_compares_only_within_them():
    # In each stratum the order is right; between strata it is wrong.
    scores, positive = np.array([0.1, 0.2, 0.8, 0.9]), np.array([False, True, False, True])
    bootstrap = Bootstrap(None, 4, resamples=0)
    parts = [concordance(scores[s], positive[s], bootstrap, s) for s in (np.array([0, 1]), np.array([2, 3]))]
    right, pairs = (sum(column) for column in zip(*parts, strict=True))
    assert right[0] / pairs[0] == 1
    assert rank(scores, positive, bootstrap).auroc[0] == 0.75


def _two(p):
    return np.stack([1 - p, p], axis=1)


def _drawn(images=600, extreme=1.0):
    """Probabilities that are `extreme` times too sure, and outcomes."""
    rng = np.random.default_rng(0)
    logit = rng.normal(0, 2, images)
    outcome = rng.random(images) < 1 / (1 + np.exp(-logit))
    return 1 / (1 + np.exp(-extreme * logit)), outcome.astype(int)


def test_slope_agrees_with_scikit_learn_in_the_data_in_a_resample_and_with_nearly_perfect_probabilities():
    p, outcome = _drawn(extreme=1.5)
    bootstrap = Bootstrap(None, len(p), resamples=3)
    slopes = calibration_slope(_two(p), outcome, bootstrap)
    logit = np.log(p / (1 - p))[:, None]
    for row, weights in enumerate(np.concatenate(list(bootstrap.weights(np.arange(len(p)))))):
        expected = LogisticRegression(C=np.inf, tol=1e-10, solver="newton-cholesky").fit(logit, outcome, weights)
        assert slopes[row] == pytest.approx(expected.coef_[0, 0], rel=1e-4)
    # the answer here too, and not where the steps ran out
    logit = np.linspace(-0.1, 0.1, 200)
    outcome = (logit > 0).astype(int)
    outcome[[99, 100]] = outcome[[100, 99]]
    expected = LogisticRegression(C=np.inf, tol=1e-12, solver="newton-cholesky", max_iter=1000)
    expected = expected.fit(100 * logit[:, None], outcome).coef_[0, 0] * 100
    (slope,) = calibration_slope(_two(1 / (1 + np.exp(-logit))), outcome, Bootstrap(None, 200, resamples=0))
    assert slope == pytest.approx(expected, rel=1e-3)


def test_slope_tells_extreme_from_timid_and_wrong_and_is_undefined_where_no_slope_is_the_best():
    for extreme, low, high in ((1.0, 0.85, 1.15), (2.5, 0.3, 0.5), (0.4, 2.0, 3.2), (-1, -1.2, -0.8)):
        p, outcome = _drawn(3000, extreme=extreme)
        assert low < calibration_slope(_two(p), outcome, Bootstrap(None, 3000, resamples=0))[0] < high
    for p, outcome, defined in (
        ([0.1, 0.4, 0.6, 0.9], [1, 1, 1, 1], False),  # one outcome
        ([0.1, 0.4, 0.6, 0.9], [0, 0, 1, 1], False),  # a perfect parting
        ([0.1, 0.4, 0.6, 0.9], [1, 1, 0, 0], False),
        ([0.3, 0.3, 0.3, 0.3], [0, 1, 0, 1], False),  # one probability
        ([0.1, 0.4, 0.6, 0.9], [0, 1, 0, 1], True),
        ([0.0, 1.0, 0.0, 1.0, 0.5], [0, 1, 1, 0, 1], True),  # saturated probabilities
    ):
        slope = calibration_slope(_two(np.array(p)), np.array(outcome), Bootstrap(None, len(p), resamples=0))[0]
        assert np.isfinite(slope) == defined, (p, outcome)


def test_calibration_error_is_of_the_second_class_or_of_the_called_one():
    p, outcome = _drawn()
    bootstrap = Bootstrap(None, len(p), resamples=0)
    assert expected_error(_two(p), outcome, bootstrap) == reliability(p, outcome == 1, bootstrap).error
    three = np.stack([p / 2, p / 2, 1 - p], axis=1)
    right = three.argmax(axis=1) == outcome
    expected = reliability(three.max(axis=1), right, bootstrap).error
    assert expected_error(three, outcome, bootstrap) == expected
