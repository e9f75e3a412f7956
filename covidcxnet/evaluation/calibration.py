"""Does a probability of 80% come true 80% of the time? Reliability bins, calibration error and Brier score."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from covidcxnet.evaluation.bootstrap import Bootstrap, ratio

BINS = 10


@dataclass(frozen=True)
class Reliability:
    """Probabilities against outcomes in ten bins of equal width; every array float64 [10], NaN where a bin is empty.

    Parameters
    ----------
    images : np.ndarray
        Images in each bin.
    predicted, observed : np.ndarray
        Mean probability, and share of images for which it came true.
    low, high : np.ndarray
        95% interval of `observed`.
    error : np.ndarray
        Expected calibration error, float64 [1 + resamples].
    """

    images: np.ndarray
    predicted: np.ndarray
    observed: np.ndarray
    low: np.ndarray
    high: np.ndarray
    error: np.ndarray


def reliability(probability: np.ndarray, outcome: np.ndarray, bootstrap: Bootstrap) -> Reliability:
    """Bin `probability` float [N] in 0..1 and compare with `outcome` bool [N].

    The expected calibration error is the mean absolute difference of the two over bins, weighted by images
    (Guo et al., ICML 2017, eq. 3).
    """
    probability = np.asarray(probability, np.float64)
    member = np.eye(BINS)[np.clip((probability * BINS).astype(int), 0, BINS - 1)]
    sums = bootstrap.sums(np.concatenate([member, member * probability[:, None], member * outcome[:, None]], axis=1))
    images, predicted, observed = np.split(sums, 3, axis=1)
    error = ratio(np.abs(predicted - observed).sum(axis=1), images.sum(axis=1))
    shares = ratio(observed, images)
    intervals = [bootstrap.estimate(shares[:, k]) for k in range(BINS)]
    return Reliability(
        images=images[0],
        predicted=ratio(predicted[0], images[0]),
        observed=shares[0],
        low=np.array([i.low for i in intervals]),
        high=np.array([i.high for i in intervals]),
        error=error,
    )


def brier(probabilities: np.ndarray, targets: np.ndarray, bootstrap: Bootstrap) -> np.ndarray:
    """Mean squared distance of `probabilities` float [N, C] from the truth, float64 [1 + resamples].

    0 is perfect. Two classes: halved, so that a coin scores 0.25 and the worst is 1; more classes: the sum over
    classes, the worst is 2 (Brier 1950; as `sklearn.metrics.brier_score_loss` does).
    """
    classes = probabilities.shape[1]
    squares = ((probabilities - np.eye(classes)[targets]) ** 2).sum(axis=1) / (2 if classes == 2 else 1)
    sums = bootstrap.sums(np.stack([squares, np.ones_like(squares)], axis=1))
    return ratio(sums[:, 0], sums[:, 1])
