"""Every figure of a report with its 95% interval, from true classes, probabilities and decisions.

A figure that is undefined (a class absent, nothing called by it) is NaN, never 0; resamples in which it is undefined
are left out of its interval and counted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from covidcxnet.evaluation.bootstrap import Bootstrap, Estimate, ratio
from covidcxnet.evaluation.calibration import Reliability, brier, calibration_slope, expected_error, reliability
from covidcxnet.evaluation.ranking import Ranking, rank

NORMAL = "normal"


@dataclass(frozen=True)
class Curve:
    """ROC and precision-recall curve of one class against the rest, with 95% bands on `ranking.GRID`."""

    roc: np.ndarray
    roc_band: tuple[np.ndarray, np.ndarray]
    precision_recall: np.ndarray
    precision_recall_band: tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Missed:
    """Images of a disease that were called normal, of all its images, from so many patients."""

    name: str
    missed: int
    images: int
    patients: int
    rate: Estimate

    def __str__(self) -> str:
        return f"{self.name} called {NORMAL}: {self.missed} of {self.images}"


@dataclass(frozen=True)
class Metrics:
    """All figures of one set of predictions.

    Parameters
    ----------
    classes : tuple of str
        In the order of the model's outputs.
    images, patients : int
        Images counted, and patients drawn by the bootstrap.
    overall : dict
        Name to `Estimate`: accuracy, balanced_accuracy, macro_f1, auroc, average_precision, brier, calibration_error,
        calibration_slope.
        With two classes, auroc and average_precision are those of `classes[1]`; with more, the mean over classes.
    by_class : dict
        Class to name to `Estimate`: sensitivity, specificity, precision, npv, f1, auroc, average_precision,
        calibration_error; each of the class against all others.
    confusion : np.ndarray
        int64 [C, C], rows true, columns called.
    missed : tuple of Missed
        Each other class that has images, called normal; empty where no class is named so.
    curves, reliability : dict
        Class to `Curve` and to `Reliability`.
    """

    classes: tuple[str, ...]
    images: int
    patients: int
    overall: dict[str, Estimate]
    by_class: dict[str, dict[str, Estimate]]
    confusion: np.ndarray
    missed: tuple[Missed, ...]
    curves: dict[str, Curve]
    reliability: dict[str, Reliability]

    @property
    def present(self) -> tuple[str, ...]:
        """Classes that have images here."""
        return tuple(name for name, images in zip(self.classes, self.confusion.sum(axis=1), strict=True) if images)


def measure(
    targets: np.ndarray,
    probabilities: np.ndarray,
    classes: tuple[str, ...],
    bootstrap: Bootstrap,
    predicted: np.ndarray | None = None,
) -> Metrics:
    """All figures.

    Parameters
    ----------
    targets : np.ndarray
        int [N], index into `classes`.
    probabilities : np.ndarray
        float [N, C], each row summing to 1.
    classes : tuple of str
        Names; "normal" has a meaning of its own.
    bootstrap : Bootstrap
        Made from the patients of these N images.
    predicted : np.ndarray, optional
        int [N], the decisions; the most probable class by default.

    Returns
    -------
    Metrics
    """
    targets, probabilities = np.asarray(targets), np.asarray(probabilities, np.float64)
    predicted = probabilities.argmax(axis=1) if predicted is None else np.asarray(predicted)
    rankings = [rank(probabilities[:, c], targets == c, bootstrap) for c in range(len(classes))]
    bins = [reliability(probabilities[:, c], targets == c, bootstrap) for c in range(len(classes))]
    cells = _cells(targets, predicted, len(classes), bootstrap)
    decided = [_decisions(cells, c) for c in range(len(classes))]
    by_class = {}
    for c, name in enumerate(classes):
        ranks = {"auroc": rankings[c].auroc, "average_precision": rankings[c].average_precision}
        figures = {**decided[c], **ranks, "calibration_error": bins[c].error}
        by_class[name] = {key: bootstrap.estimate(figure) for key, figure in figures.items()}
    overall = _overall(cells, decided, rankings)
    overall["brier"] = brier(probabilities, targets, bootstrap)
    # two classes: the bins of the second are there already
    two = len(bins) == 2
    overall["calibration_error"] = bins[1].error if two else expected_error(probabilities, targets, bootstrap)
    overall["calibration_slope"] = calibration_slope(probabilities, targets, bootstrap)
    return Metrics(
        classes=tuple(classes),
        images=len(targets),
        patients=bootstrap.patients,
        overall={key: bootstrap.estimate(figure) for key, figure in overall.items()},
        by_class=by_class,
        confusion=cells[0].astype(np.int64),
        missed=_missed(cells, targets, tuple(classes), bootstrap),
        curves={name: _curve(rankings[c], bootstrap) for c, name in enumerate(classes)},
        reliability=dict(zip(classes, bins, strict=True)),
    )


def _cells(targets: np.ndarray, predicted: np.ndarray, classes: int, bootstrap: Bootstrap) -> np.ndarray:
    """Confusion matrix of each resample, float64 [1 + resamples, C, C]."""
    one_hot = np.eye(classes * classes)[targets * classes + predicted]
    return bootstrap.sums(one_hot).reshape(-1, classes, classes)


def _decisions(cells: np.ndarray, c: int) -> dict[str, np.ndarray]:
    """Figures of decisions for class `c` against the rest, each float64 [1 + resamples]."""
    total = cells.sum(axis=(1, 2))
    true_positive = cells[:, c, c]
    positive, called = cells[:, c, :].sum(axis=1), cells[:, :, c].sum(axis=1)
    true_negative = total - positive - called + true_positive
    return {
        "sensitivity": ratio(true_positive, positive),
        "specificity": ratio(true_negative, total - positive),
        "precision": ratio(true_positive, called),
        "npv": ratio(true_negative, total - called),
        # without images of the class, calls alone would make it 0: it is undefined
        "f1": ratio(2 * true_positive, np.where(positive > 0, positive + called, 0)),
    }


def _overall(cells: np.ndarray, decided: list[dict[str, np.ndarray]], rankings: list[Ranking]) -> dict[str, np.ndarray]:
    # With two classes the two one-vs-rest AUROCs are one number; a mean of average precisions would hide the disease's.
    chosen = rankings[1:] if len(rankings) == 2 else rankings
    return {
        "accuracy": ratio(np.trace(cells, axis1=1, axis2=2), cells.sum(axis=(1, 2))),
        "balanced_accuracy": np.mean([d["sensitivity"] for d in decided], axis=0),
        "macro_f1": np.mean([d["f1"] for d in decided], axis=0),
        "auroc": np.mean([r.auroc for r in chosen], axis=0),
        "average_precision": np.mean([r.average_precision for r in chosen], axis=0),
    }


def _missed(
    cells: np.ndarray, targets: np.ndarray, classes: tuple[str, ...], bootstrap: Bootstrap
) -> tuple[Missed, ...]:
    if NORMAL not in classes:
        return ()
    normal = classes.index(NORMAL)
    found = []
    for c, name in enumerate(classes):
        if c != normal and cells[0, c].any():
            rate = bootstrap.estimate(ratio(cells[:, c, normal], cells[:, c].sum(axis=1)))
            patients = len(np.unique(bootstrap.index[targets == c]))
            found.append(Missed(name, int(cells[0, c, normal]), int(cells[0, c].sum()), patients, rate))
    return tuple(found)


def _curve(ranking: Ranking, bootstrap: Bootstrap) -> Curve:
    return Curve(
        ranking.roc_points,
        bootstrap.band(ranking.sensitivity),
        ranking.precision_recall_points,
        bootstrap.band(ranking.precision),
    )
