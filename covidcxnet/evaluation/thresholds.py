"""From which probability a class is called: the default, a number given, stored, or chosen on validation."""

from __future__ import annotations

import numpy as np

from covidcxnet.evaluation.images import EvaluatedImages
from covidcxnet.evaluation.predictions import truth_of
from covidcxnet.evaluation.provenance import EvaluationSettings
from covidcxnet.training.validation import best_thresholds
from enhancement.errors import InputError


def thresholds_for(images: EvaluatedImages, settings: EvaluationSettings) -> tuple[np.ndarray, str]:
    """Threshold of each class, float64 [K], and in words where they come from.

    A threshold of 0.5, the default, stands for the thresholds that weights of independent findings bring.
    """
    classifier, cut, run = images.classifier, settings.threshold, images.run
    exclusive, classes = classifier.task == "exclusive", classifier.classes
    if cut == 0.5 and exclusive:
        return np.full(len(classes), 0.5), "the default"
    if cut == 0.5:
        chosen = "highest F1 of each finding on validation, stored with the weights"
        stored = bool(classifier.metadata.get("thresholds"))
        return classifier.thresholds, chosen if stored else "0.5 for all: the weights bring none"
    if exclusive and len(classes) != 2:
        raise InputError("threshold: is for two classes; with more, the most probable class is called")
    if cut != "auto":
        return np.full(len(classes), float(cut)), "as asked for"
    if run is None:
        raise InputError("threshold: auto is chosen on a run's validation split; these weights come without their run")
    rows = run.rows("validation")
    truth = truth_of(run.store.table, classes, classifier.task)[rows]
    probabilities = classifier.predict_rows(run.store, rows, settings.batch_size, settings.progress, "validation")
    if exclusive:
        best = youden_threshold(probabilities[:, 1], truth[:, 1] == 1)
        return np.full(2, best), "highest sensitivity + specificity on the validation split"
    return best_thresholds(truth, probabilities), "highest F1 of each finding on the validation split"


def youden_threshold(probability: np.ndarray, positive: np.ndarray) -> float:
    """Probability at which sensitivity + specificity is highest (Youden 1950); the middle of the gap it lies in."""
    positive = np.asarray(positive, bool)
    if positive.all() or not positive.any():
        raise InputError("threshold: auto needs both classes in the validation split; give a number such as 0.5")
    order = np.argsort(-np.asarray(probability, np.float64), kind="stable")
    descending = np.asarray(probability, np.float64)[order]
    # decisions change only where the probability does
    last = np.flatnonzero(np.r_[np.diff(descending) != 0, True])
    sensitivity = np.cumsum(positive[order])[last] / positive.sum()
    false_positive_rate = np.cumsum(~positive[order])[last] / (~positive).sum()
    best = int(np.argmax(sensitivity - false_positive_rate))
    lower = descending[last[best + 1]] if best + 1 < len(last) else 0.0
    return float((descending[last[best]] + lower) / 2)
