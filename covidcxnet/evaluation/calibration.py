"""Does a probability of 80% come true 80% of the time? Reliability, its error and slope, Brier score, cross-entropy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from covidcxnet.evaluation.bootstrap import Bootstrap, ratio

BINS = 10
TINY = 1e-7  # Keras' own bound of probabilities in logarithms
_CLOSEST = 1e-6  # to 0 or 1, so that the logit of a saturated sigmoid stays finite


@dataclass(frozen=True)
class Reliability:
    """Probabilities against outcomes in ten bins of equal width; float64 [10], NaN where a bin is empty."""

    images: np.ndarray
    predicted: np.ndarray  # mean probability
    observed: np.ndarray  # share of images for which it came true, and its 95% interval
    low: np.ndarray
    high: np.ndarray
    error: np.ndarray  # expected calibration error, float64 [1 + resamples]


def reliability(probability: np.ndarray, outcome: np.ndarray, bootstrap: Bootstrap) -> Reliability:
    """Bin `probability` float [N] in 0..1 and compare with `outcome` bool [N].

    The expected calibration error is the mean absolute difference of the two over bins, weighted by images
    (Guo et al., ICML 2017, eq. 3).
    """
    probability = np.asarray(probability, np.float64)
    member = np.eye(BINS)[_bins(probability)]
    sums = bootstrap.sums(np.concatenate([member, member * probability[:, None], member * outcome[:, None]], axis=1))
    images, predicted, observed = np.split(sums, 3, axis=1)
    error = ratio(np.abs(predicted - observed).sum(axis=1), images.sum(axis=1))
    shares = ratio(observed, images)
    intervals = [bootstrap.estimate(shares[:, k], member[:, k] > 0) for k in range(BINS)]
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


def cross_entropy(probabilities: np.ndarray, truth: np.ndarray, bootstrap: Bootstrap, task: str) -> np.ndarray:
    """The loss of training without weights and label smoothing, in nats, float64 [1 + resamples].

    `probabilities` and `truth` are float [N, C], truth 1, 0 or NaN (unknown). With `task` "exclusive" it is the mean
    over images of minus the logarithm of the true class's probability; with "independent" the mean of the binary
    cross-entropy over all known findings of all images.
    """
    # Keras' bound, so that the figure is the one that `model.evaluate` would give.
    chance = np.clip(np.asarray(probabilities, np.float64), TINY, 1 - TINY)
    losses = -np.log(np.where(truth == 1, chance, 1 - chance))
    counted = truth == 1 if task == "exclusive" else ~np.isnan(truth)
    sums = bootstrap.sums(np.stack([(losses * counted).sum(axis=1), counted.sum(axis=1)], axis=1))
    return ratio(sums[:, 0], sums[:, 1])


def temperature(probabilities: np.ndarray, truth: np.ndarray, task: str) -> float:
    """The number that logits have to be divided by for the lowest cross-entropy (Guo et al., ICML 2017, 4.2).

    Arguments as in `cross_entropy`. Above 1 the probabilities were too extreme; the order of images stays as it is.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import expit, log_softmax

    chance = np.clip(np.asarray(probabilities, np.float64), TINY, 1 - TINY)

    def loss(log_temperature: float) -> float:
        if task == "exclusive":
            return -log_softmax(np.log(chance) / np.exp(log_temperature), axis=1)[truth == 1].mean()
        scaled = expit((np.log(chance) - np.log1p(-chance)) / np.exp(log_temperature))
        correct = np.where(truth == 1, scaled, 1 - scaled)[~np.isnan(truth)]
        return -np.log(np.clip(correct, TINY, 1)).mean()

    return float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded", options={"xatol": 1e-6}).x))


def expected_error(probabilities: np.ndarray, targets: np.ndarray, bootstrap: Bootstrap) -> np.ndarray:
    """Expected calibration error of `probabilities` float [N, C], float64 [1 + resamples].

    Two classes: of P(classes[1]). More: of the top probability, as is usual (Guo et al. 2017).
    """
    probability, outcome = _stated(probabilities, targets)
    return reliability(probability, outcome, bootstrap).error


def error_by_chance(probabilities: np.ndarray, patient: np.ndarray, draws: int = 1000, seed: int = 0) -> float:
    """95th percentile of the expected calibration error of a perfectly calibrated network with these probabilities.

    Arguments as in `expected_error`; `patient` int [N] numbers the patient of each image. The error is biased upwards
    where images are few (Roelofs et al., AISTATS 2022), so that it has to be compared with this.
    """
    probability = _stated(probabilities, np.zeros(len(probabilities), int))[0].astype(np.float64)
    place, random = _bins(probability), np.random.default_rng(seed)
    errors = []
    for _ in range(draws):
        # One number for all images of a patient, whose labels go together; each still comes true as often as stated.
        true = random.random(patient.max() + 1)[patient] < probability
        errors.append(np.abs(np.bincount(place, true - probability)).sum() / len(probability))
    return float(np.quantile(errors, 0.95))


def calibration_slope(probabilities: np.ndarray, targets: np.ndarray, bootstrap: Bootstrap) -> np.ndarray:
    """Slope of a logistic regression of the outcome on the logit of the stated probability, float64 [1 + resamples].

    1 is perfect, below 1 the probabilities are too extreme, 0 they say nothing, below 0 the wrong way round (Cox 1958;
    Van Calster et al., BMC Medicine 17, 2019). Which probability: as in `expected_error`. NaN where all outcomes are
    alike or the probability parts them perfectly.
    """
    probability, outcome = _stated(probabilities, targets)
    clipped = np.clip(np.asarray(probability, np.float64), _CLOSEST, 1 - _CLOSEST)
    logit = np.log(clipped) - np.log1p(-clipped)
    spread = logit.std()
    if not spread > 0:
        return np.full(1 + bootstrap.resamples, np.nan)
    # of order 1, so that one length of step suits every model
    scaled = (logit - logit.mean()) / spread
    parts = [_slopes(scaled, outcome, weights) for weights in bootstrap.weights(np.arange(len(logit)))]
    return np.concatenate(parts) / spread


def _bins(probability: np.ndarray) -> np.ndarray:
    """Number of each probability's bin, int [N]."""
    return np.clip((probability * BINS).astype(int), 0, BINS - 1)


def _stated(probabilities: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The probability that is judged, float [N], and whether it came true, bool [N]."""
    if probabilities.shape[1] == 2:
        return probabilities[:, 1], np.asarray(targets) == 1
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == targets


def _slopes(x: np.ndarray, outcome: np.ndarray, weights: np.ndarray, steps: int = 200) -> np.ndarray:
    """Newton's method for all resamples at once: weights float64 [b, N] -> slopes float64 [b], NaN where it fails.

    Sums over images are matrix products with 1, x and x squared.
    """
    y = np.asarray(outcome, np.float64)
    basis = np.stack([np.ones_like(x), x, x * x], axis=1)
    a, b = np.zeros(len(weights)), np.zeros(len(weights))
    moved, highest = np.zeros(len(weights)), _overlapping(x, y > 0, weights > 0)
    for _ in range(steps):
        p = 1 / (1 + np.exp(-np.clip(a[:, None] + b[:, None] * x, -40, 40)))
        g0, g1 = ((weights * (y - p)) @ basis[:, :2]).T
        h00, h01, h11 = ((weights * p * (1 - p)) @ basis).T
        determinant = h00 * h11 - h01 * h01
        usable = determinant > 1e-12 * np.maximum(h00 * h11, 1e-12)
        safe = np.where(usable, determinant, 1.0)
        # steps are held short: far from the answer Newton's overshoots
        da = np.where(usable, np.clip((h11 * g0 - h01 * g1) / safe, -5, 5), 0.0)
        db = np.where(usable, np.clip((h00 * g1 - h01 * g0) / safe, -5, 5), 0.0)
        a, b = a + da, b + db
        moved = np.maximum(np.abs(da), np.abs(db))
        if moved[highest].max(initial=0) < 1e-9:
            break
    return np.where(highest & (moved < 1e-6), b, np.nan)


def _overlapping(x: np.ndarray, positive: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Where both outcomes were drawn and `x` does not part them: only there the likelihood has a highest point."""
    lowest, highest = np.where(drawn, x, np.inf), np.where(drawn, x, -np.inf)
    above = lowest[:, positive].min(axis=1, initial=np.inf), highest[:, positive].max(axis=1, initial=-np.inf)
    below = lowest[:, ~positive].min(axis=1, initial=np.inf), highest[:, ~positive].max(axis=1, initial=-np.inf)
    return (above[0] < below[1]) & (below[0] < above[1])
