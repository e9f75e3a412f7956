"""The calibration slope is that of a logistic regression, and undefined where there is none."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from covidcxnet.evaluation.bootstrap import Bootstrap
from covidcxnet.evaluation.calibration import calibration_slope, expected_error, reliability


def _two(p):
    return np.stack([1 - p, p], axis=1)


def _drawn(images=600, seed=0, extreme=1.0):
    """Outcomes that come true as often as said, and what is said of them, `extreme` times too sure."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(0, 2, images)
    outcome = rng.random(images) < 1 / (1 + np.exp(-logit))
    return 1 / (1 + np.exp(-extreme * logit)), outcome.astype(int)


def test_slope_agrees_with_scikit_learn_in_the_data_and_in_a_resample():
    p, outcome = _drawn(extreme=1.5)
    bootstrap = Bootstrap(None, len(p), resamples=3)
    found = calibration_slope(_two(p), outcome, bootstrap)
    logit = np.log(p / (1 - p))[:, None]
    for row, weights in enumerate(np.concatenate(list(bootstrap.weights(np.arange(len(p)))))):
        expected = LogisticRegression(C=np.inf, tol=1e-10, solver="newton-cholesky").fit(logit, outcome, weights)
        assert found[row] == pytest.approx(expected.coef_[0, 0], rel=1e-4)


@pytest.mark.parametrize("extreme, low, high", [(1.0, 0.85, 1.15), (2.5, 0.3, 0.5), (0.4, 2.0, 3.2), (-1, -1.2, -0.8)])
def test_slope_tells_extreme_from_timid_and_wrong(extreme, low, high):
    p, outcome = _drawn(3000, extreme=extreme)
    assert low < calibration_slope(_two(p), outcome, Bootstrap(None, 3000, resamples=0))[0] < high


def test_slope_of_nearly_perfect_probabilities_is_the_answer_and_not_where_the_steps_ran_out():
    logit = np.linspace(-0.1, 0.1, 200)
    outcome = (logit > 0).astype(int)
    outcome[[99, 100]] = outcome[[100, 99]]
    p = 1 / (1 + np.exp(-logit))
    expected = LogisticRegression(C=np.inf, tol=1e-12, solver="newton-cholesky", max_iter=1000)
    expected = expected.fit(100 * logit[:, None], outcome).coef_[0, 0] * 100
    (slope,) = calibration_slope(_two(p), outcome, Bootstrap(None, 200, resamples=0))
    assert slope == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    "p, outcome, defined",
    [
        ([0.1, 0.4, 0.6, 0.9], [1, 1, 1, 1], False),  # one outcome
        ([0.1, 0.4, 0.6, 0.9], [0, 0, 1, 1], False),  # a perfect parting
        ([0.1, 0.4, 0.6, 0.9], [1, 1, 0, 0], False),
        ([0.3, 0.3, 0.3, 0.3], [0, 1, 0, 1], False),  # one probability
        ([0.1, 0.4, 0.6, 0.9], [0, 1, 0, 1], True),
        ([0.0, 1.0, 0.0, 1.0, 0.5], [0, 1, 1, 0, 1], True),  # saturated probabilities
    ],
)
def test_slope_is_undefined_where_no_slope_is_the_best(p, outcome, defined):
    slope = calibration_slope(_two(np.array(p)), np.array(outcome), Bootstrap(None, len(p), resamples=0))[0]
    assert np.isfinite(slope) == defined


def test_calibration_error_is_of_the_second_class_or_of_the_called_one():
    p, outcome = _drawn()
    bootstrap = Bootstrap(None, len(p), resamples=0)
    assert expected_error(_two(p), outcome, bootstrap) == reliability(p, outcome == 1, bootstrap).error
    three = np.stack([p / 2, p / 2, 1 - p], axis=1)
    right = three.argmax(axis=1) == outcome
    expected = reliability(three.max(axis=1), right, bootstrap).error
    assert expected_error(three, outcome, bootstrap) == expected
