"""Every figure of a report with its 95% interval, from truth, probabilities and decisions.

A figure that is undefined (a class absent, nothing predicted as it) is NaN, never 0; resamples in which it is undefined
are left out of its interval and counted.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from covidcxnet.evaluation.bootstrap import Bootstrap, Estimate, mean_of_defined, ratio
from covidcxnet.evaluation.calibration import (
    Reliability,
    brier,
    calibration_slope,
    cross_entropy,
    expected_error,
    reliability,
)
from covidcxnet.evaluation.predictions import Predictions
from covidcxnet.evaluation.ranking import Ranking, rank, source_alone
from covidcxnet.reporting.plots import corners

NORMAL = "normal"

_DECISIONS, _RANKINGS = ("sensitivity", "specificity", "precision", "npv"), ("auroc", "average_precision")
FIGURES = {
    "exclusive": (*_DECISIONS, "f1", *_RANKINGS, "calibration_error"),
    "independent": (*_RANKINGS, "f1", *_DECISIONS),
}
"""Figures of each class, in the order of `metrics.json`."""


@dataclass(frozen=True)
class Curve:
    """Corners of the ROC and precision-recall curve of one class against the rest, 95% bands on `ranking.GRID`."""

    roc: np.ndarray
    roc_band: tuple[np.ndarray, np.ndarray]
    precision_recall: np.ndarray
    precision_recall_band: tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class ClassMetrics:
    """Figures of one class against the rest, or of one finding, over the images in which it is known."""

    name: str
    present: int  # images with it
    absent: int
    patients: int  # of images with it
    tp: int  # images by truth and decision
    fp: int
    fn: int
    tn: int
    threshold: float
    figures: dict[str, Estimate]  # name from `FIGURES`
    curve: Curve | None = field(default=None, repr=False)  # None where one side is absent
    reliability: Reliability | None = field(default=None, repr=False)  # of exclusive classes
    source_alone: float = float("nan")  # AUROC of a reader who sees only the source; NaN where there are not several


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

    Overall figures of exclusive classes: with two classes auroc and average_precision are those of `classes[1]`, with
    more the mean over classes, undefined if one of them has no images. Of independent findings: the mean of each of
    `FIGURES` over the findings for which it is defined; that of f1 is called macro_f1. `loss` is the cross-entropy
    without weights, of both kinds of labels.
    """

    task: str
    classes: tuple[str, ...]
    images: int
    patients: int  # drawn by the bootstrap
    overall: dict[str, Estimate]
    by_class: dict[str, ClassMetrics]
    confusion: np.ndarray | None = None  # int64 [K, K] of exclusive classes, rows true, columns predicted
    missed: tuple[Missed, ...] = ()  # each exclusive class but normal that has images, where one is called normal

    @property
    def present(self) -> tuple[str, ...]:
        """Classes that have images here."""
        return tuple(name for name, row in self.by_class.items() if row.present)

    @property
    def never_found(self) -> tuple[str, ...]:
        """Classes with an F1 of 0: present in images, and predicted in none of them."""
        return tuple(name for name, row in self.by_class.items() if row.figures["f1"].value == 0)

    @property
    def untested(self) -> tuple[str, ...]:
        """Classes that are present in no image, or absent in none: no ranking can be judged on them."""
        return tuple(name for name, row in self.by_class.items() if not row.present or not row.absent)


def measure(predictions: Predictions, bootstrap: Bootstrap) -> Metrics:
    """All figures; `bootstrap` is made from the patients of these images."""
    truth, scores, classes = predictions.truth, predictions.probabilities, predictions.classes
    exclusive, sources = predictions.task == "exclusive", predictions.sources
    cells = _cells(truth, predictions.called, bootstrap)
    by_class, statistics = {}, []
    for k, name in enumerate(classes):
        rows = np.flatnonzero(~np.isnan(truth[:, k]))
        present = truth[rows, k] == 1
        called, known = predictions.called[:, k], ~np.isnan(truth[:, k])
        of = dict(zip(_DECISIONS, (truth[:, k] == 1, truth[:, k] == 0, called & known, ~called & known), strict=True))
        ranking = rank(scores[rows, k], present, bootstrap, rows) if len(rows) else None
        bins = reliability(scores[:, k], present, bootstrap) if exclusive else None
        arrays = _statistics(cells[k], ranking, bins)
        tp, fp, fn, tn = (int(cell[0]) for cell in cells[k])
        curve = None
        if ranking is not None and len(ranking.roc_points):
            bands = bootstrap.band(ranking.sensitivity), bootstrap.band(ranking.precision)
            curve = Curve(corners(ranking.roc_points), bands[0], corners(ranking.precision_recall_points), bands[1])
        names = None if sources is None or len(set(sources[rows])) == 1 else sources[rows]
        statistics.append(arrays)
        by_class[name] = ClassMetrics(
            name=name,
            present=int(present.sum()),
            absent=int((~present).sum()),
            patients=len(np.unique(bootstrap.index[rows[present]])),
            tp=tp,
            fp=fp,
            fn=fn,
            tn=tn,
            threshold=float(predictions.thresholds[k]),
            figures={key: bootstrap.estimate(arrays[key], of.get(key)) for key in FIGURES[predictions.task]},
            curve=curve,
            reliability=bins,
            source_alone=float("nan") if names is None else source_alone(names, present),
        )
    confusion = None
    if exclusive:
        confusion = np.zeros((len(classes),) * 2, np.int64)
        np.add.at(confusion, (predictions.targets, predictions.predicted), 1)
    overall = _overall_exclusive(predictions, cells, statistics, bootstrap) if exclusive else _means(statistics)
    of = {"accuracy": np.ones(len(truth), bool)}
    overall["loss"] = cross_entropy(scores, truth, bootstrap, predictions.task)
    return Metrics(
        task=predictions.task,
        classes=tuple(classes),
        images=len(predictions),
        patients=bootstrap.patients,
        overall={
            key: Estimate(float("nan")) if array is None else bootstrap.estimate(array, of.get(key))
            for key, array in overall.items()
        },
        by_class=by_class,
        confusion=confusion,
        missed=_missed(predictions, cells, by_class, bootstrap) if exclusive else (),
    )


def _cells(truth: np.ndarray, called: np.ndarray, bootstrap: Bootstrap) -> np.ndarray:
    """tp, fp, fn and tn of each class in each resample, float64 [K, 4, 1 + resamples]; unknown images are in none."""
    present, absent = truth == 1, truth == 0
    cells = np.stack([present & called, absent & called, present & ~called, absent & ~called], axis=2)
    # One product for all classes: turning the counts of patients into floats costs more than the product.
    return bootstrap.sums(cells.reshape(len(truth), -1)).T.reshape(truth.shape[1], 4, -1)


def _statistics(cells: np.ndarray, ranking: Ranking | None, bins: Reliability | None) -> dict[str, np.ndarray]:
    """Figures of one class, each float64 [1 + resamples]."""
    tp, fp, fn, tn = cells
    undefined = np.full(len(tp), np.nan)
    return {
        "sensitivity": ratio(tp, tp + fn),
        "specificity": ratio(tn, tn + fp),
        "precision": ratio(tp, tp + fp),
        "npv": ratio(tn, tn + fn),
        # without images of the class, predictions alone would make it 0: it is undefined
        "f1": ratio(2 * tp, np.where(tp + fn > 0, 2 * tp + fp + fn, 0)),
        "auroc": undefined if ranking is None else ranking.auroc,
        "average_precision": undefined if ranking is None else ranking.average_precision,
        "calibration_error": undefined if bins is None else bins.error,
    }


def _means(statistics: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray | None]:
    """Means over the findings for which a figure is defined in the data; resamples may lack some of those."""
    means: dict[str, np.ndarray | None] = {}
    for key in FIGURES["independent"]:
        defined = [arrays[key] for arrays in statistics if not np.isnan(arrays[key][0])]
        means["macro_f1" if key == "f1" else key] = mean_of_defined(defined) if defined else None
    return means


def _overall_exclusive(
    predictions: Predictions, cells: np.ndarray, statistics: list[dict[str, np.ndarray]], bootstrap: Bootstrap
) -> dict[str, np.ndarray | None]:
    probabilities, targets = np.asarray(predictions.probabilities, np.float64), predictions.targets
    # With two classes the two one-vs-rest AUROCs are one number; a mean of average precisions would hide the disease's.
    two = len(statistics) == 2
    ranked = statistics[1:] if two else statistics
    # the bins of the second are there already
    error = statistics[1]["calibration_error"] if two else expected_error(probabilities, targets, bootstrap)
    return {
        "accuracy": ratio(cells[:, 0].sum(axis=0), cells[0].sum(axis=0)),
        "balanced_accuracy": np.mean([s["sensitivity"] for s in statistics], axis=0),
        "macro_f1": np.mean([s["f1"] for s in statistics], axis=0),
        "auroc": np.mean([s["auroc"] for s in ranked], axis=0),
        "average_precision": np.mean([s["average_precision"] for s in ranked], axis=0),
        "brier": brier(probabilities, targets, bootstrap),
        "calibration_error": error,
        "calibration_slope": calibration_slope(probabilities, targets, bootstrap),
    }


def _missed(
    predictions: Predictions, cells: np.ndarray, by_class: dict[str, ClassMetrics], bootstrap: Bootstrap
) -> tuple[Missed, ...]:
    if NORMAL not in predictions.classes:
        return ()
    called = (predictions.predicted == predictions.classes.index(NORMAL))[:, None] & (predictions.truth == 1)
    missed = bootstrap.sums(called).T
    return tuple(
        Missed(name, int(lost[0]), row.present, row.patients, bootstrap.estimate(ratio(lost, tp + fn), of))
        for (name, row), lost, of, (tp, _, fn, _) in zip(
            by_class.items(), missed, (predictions.truth == 1).T, cells, strict=True
        )
        # a class may have no image in the data and none in any resample
        if name != NORMAL and row.present
    )
