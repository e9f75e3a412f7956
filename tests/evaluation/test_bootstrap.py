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


def test_interval_of_a_proportion_is_the_binomial_one():
    hits = np.arange(60) < 48
    found = _proportion(hits)
    low, high = binom.ppf([0.025, 0.975], 60, 0.8) / 60
    assert found.value == 0.8
    assert found.low == pytest.approx(low, abs=1 / 60)
    assert found.high == pytest.approx(high, abs=1 / 60)


def test_five_equal_images_of_each_patient_say_no_more_than_one():
    hits = np.arange(60) < 48
    found = _proportion(np.repeat(hits, 5), np.repeat(np.arange(60), 5))
    low, high = binom.ppf([0.025, 0.975], 60, 0.8) / 60
    assert found.low == pytest.approx(low, abs=1 / 60)
    assert found.high == pytest.approx(high, abs=1 / 60)
    by_image = _proportion(np.repeat(hits, 5))
    assert by_image.high - by_image.low < 0.6 * (found.high - found.low)


def test_about_95_of_100_intervals_hold_the_truth():
    rng = np.random.default_rng(5)
    held = 0
    for _trial in range(200):
        patients = rng.random(80) < 0.7
        found = _proportion(np.repeat(patients, 2), np.repeat(np.arange(80), 2), resamples=400)
        held += found.low <= 0.7 <= found.high
    assert 0.89 <= held / 200 <= 0.99


def test_row_zero_is_the_data_and_each_resample_draws_as_many_patients():
    bootstrap = Bootstrap(["a", "a", "b", "c"], resamples=50)
    assert bootstrap.patients == 3
    assert (bootstrap.counts[0] == 1).all()
    assert (bootstrap.counts.sum(axis=1) == 3).all()
    assert bootstrap.sums(np.ones((4, 1)))[0, 0] == 4


def test_weights_repeat_a_patients_count_for_each_of_its_images():
    bootstrap = Bootstrap(["a", "b", "a"], resamples=20)
    weights = np.concatenate(list(bootstrap.weights(np.array([0, 1, 2]))))
    np.testing.assert_array_equal(weights[:, 0], weights[:, 2])
    np.testing.assert_array_equal(weights[:, 1], bootstrap.counts[:, bootstrap.index[1]])


def test_images_without_a_patient_are_patients_of_their_own():
    bootstrap = Bootstrap(["a", None, "a", float("nan"), ""], resamples=5)
    assert bootstrap.patients == 4
    assert bootstrap.unknown == 3
    assert Bootstrap(None, 7, resamples=5).patients == 7


def test_same_seed_same_resamples_other_seed_others():
    first, again, other = (Bootstrap(None, 30, resamples=20, seed=s).counts for s in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_undefined_resamples_are_left_out_and_counted():
    bootstrap = Bootstrap(None, 10, resamples=4)
    found = bootstrap.estimate(np.array([0.5, 0.4, math.nan, 0.6, math.nan]))
    assert found.undefined == 2
    assert 0.4 <= found.low <= found.high <= 0.6


def test_one_patient_gives_no_interval():
    found = _proportion(np.array([True, False, True]), ["a", "a", "a"])
    assert found.value == pytest.approx(2 / 3)
    assert math.isnan(found.low) and math.isnan(found.high)


def test_no_resamples_gives_figures_without_intervals():
    found = _proportion(np.array([True, False]), resamples=0)
    assert found.value == 0.5
    assert math.isnan(found.low)


def test_nothing_divided_by_nothing_is_undefined_not_zero():
    assert math.isnan(ratio(np.array([0.0]), np.array([0.0]))[0])


def test_an_undefined_estimate_is_null_in_json():
    assert Estimate(math.nan).to_dict() == {"value": None, "low": None, "high": None, "undefined_resamples": 0}


def test_no_images_are_refused():
    with pytest.raises(ValueError, match="positive number of images"):
        Bootstrap(None, 0)
    with pytest.raises(ValueError, match="no images"):
        Bootstrap([])
