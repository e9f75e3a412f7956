"""The bootstrap draws patients, and its intervals are the ones that theory gives."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom

from covidcxnet.evaluation.bootstrap import Bootstrap, Estimate, ratio


def _proportion(hits, groups=None, resamples=4000) -> Estimate:
    bootstrap = Bootstrap(groups, len(hits), resamples=resamples, seed=1)
    sums = bootstrap.sums(np.stack([hits, np.ones(len(hits))], axis=1))
    return bootstrap.estimate(ratio(sums[:, 0], sums[:, 1]))


@pytest.mark.parametrize("images", [1, 5])
def test_interval_of_a_proportion_is_the_binomial_one_however_many_equal_images_a_patient_has(images):
    hits = np.repeat(np.arange(60) < 48, images)
    by_patient, by_image = _proportion(hits, np.repeat(np.arange(60), images)), _proportion(hits)
    low, high = binom.ppf([0.025, 0.975], 60, 0.8) / 60
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


def test_row_zero_is_the_data_and_each_resample_draws_as_many_patients():
    bootstrap = Bootstrap(["a", "b", "a", "c"], resamples=50)
    assert bootstrap.patients == 3 and bootstrap.sums(np.ones((4, 1)))[0, 0] == 4
    assert (bootstrap.counts[0] == 1).all() and (bootstrap.counts.sum(axis=1) == 3).all()
    # a patient's count is repeated for each of its images
    weights = np.concatenate(list(bootstrap.weights(np.array([0, 1, 2]))))
    np.testing.assert_array_equal(weights, bootstrap.counts[:, bootstrap.index[[0, 1, 0]]])


def test_part_of_a_bootstrap_draws_the_same_patients():
    whole = Bootstrap(["a", "b", "a", None, "c"], resamples=20)
    part = whole.part(np.array([2, 3]))
    assert part.patients == 2 and part.unknown == 1
    values = 10.0 ** np.arange(5)[:, None]
    masked = np.where(np.isin(np.arange(5), [2, 3])[:, None], values, 0)
    np.testing.assert_array_equal(part.sums(values[[2, 3]]), whole.sums(masked))


def test_images_without_a_patient_are_patients_of_their_own():
    bootstrap = Bootstrap(["a", None, "a", float("nan"), ""], resamples=5)
    assert (bootstrap.patients, bootstrap.unknown) == (4, 3)
    assert Bootstrap(None, 7, resamples=5).patients == 7


def test_same_seed_same_resamples_other_seed_others():
    first, again, other = (Bootstrap(None, 30, resamples=20, seed=s).counts for s in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_undefined_resamples_are_left_out_and_counted():
    estimate = Bootstrap(None, 10, resamples=4).estimate(np.array([0.5, 0.4, math.nan, 0.6, math.nan]))
    assert estimate.undefined == 2 and 0.4 <= estimate.low <= estimate.high <= 0.6


@pytest.mark.parametrize(("groups", "resamples"), [(["a", "a"], 4000), (None, 0)])
def test_one_patient_or_no_resamples_give_a_figure_without_an_interval(groups, resamples):
    estimate = _proportion(np.array([True, False]), groups, resamples)
    assert estimate.value == 0.5 and math.isnan(estimate.low) and math.isnan(estimate.high)


def test_what_is_undefined_is_neither_zero_nor_a_number_in_json():
    assert math.isnan(ratio(np.array([0.0]), np.array([0.0]))[0])
    assert Estimate(math.nan).to_dict() == {"value": None, "low": None, "high": None, "undefined_resamples": 0}


def test_no_images_are_refused():
    with pytest.raises(ValueError, match="positive number of images"):
        Bootstrap(None, 0)
    with pytest.raises(ValueError, match="no images"):
        Bootstrap([])
