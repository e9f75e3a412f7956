"""What validation images decide after training: from which probability a class is called, and the temperature."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from covidcxnet.datasets.vocabulary import check_labels
from covidcxnet.evaluation.bootstrap import Bootstrap
from covidcxnet.evaluation.calibration import TINY, cross_entropy, temperature
from covidcxnet.evaluation.images import EvaluatedImages, find_run
from covidcxnet.evaluation.predictions import truth_of
from covidcxnet.evaluation.provenance import EvaluationSettings
from covidcxnet.models.heads import OUTPUT
from covidcxnet.pretrained import load_model
from covidcxnet.training.sampling import labels_of
from covidcxnet.training.validation import best_thresholds
from enhancement.errors import InputError
from enhancement.files import check_output
from weights import save_weights
from weights.format import check_suffix

_MOST = 15.0  # a temperature as high as this makes all classes equally probable


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
        return np.full(len(classes), float(cut)), "as given"
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


def calibrate(
    target: str | Path, out: str | Path | None = None, *, overwrite: bool = False
) -> tuple[Path, dict[str, Any]]:
    """Write a run's best weights, or a weights file that lies in a run folder, anew, with probabilities that come true
    more nearly (temperature scaling).

    The output layer is divided by the temperature, so that whatever reads the file has the new probabilities; which
    class is called stays as it was. Returned are the file, by default `calibrated.weights.h5` in the run, and what
    stands in its metadata: the temperature, the number of validation images, and their cross-entropy before and after.
    `InputError` if the model has no single output layer, validation lacks a class, or the file exists and `overwrite`
    is not given.
    """
    run = find_run(target)
    if run is None:
        wrong = "neither a run folder nor a weights file in one" if Path(target).exists() else "no such file or folder"
        raise InputError(f"{target}: {wrong}")
    out = Path(out or run.path / "calibrated.weights.h5")
    check_suffix(check_output(out, overwrite=overwrite))  # before predictions that take minutes
    classifier = load_model(target)
    if (run.store.settings, run.store.classes) != (classifier.input, classifier.classes):
        raise InputError(f"{target}: its classes or input settings are not those of the run's images")
    layers = [layer for layer in classifier.model.layers if layer.name == OUTPUT]
    if not layers:
        raise InputError(f"{run.path}: {classifier.model.name} has no single output layer to scale")
    rows = run.rows("validation")
    check_labels(labels_of(run.recipe, run.store)[rows], classifier.classes, classifier.task, "validation")
    truth = truth_of(run.store.table, classifier.classes, classifier.task)[rows]
    before = classifier.predict_rows(run.store, rows)
    divisor = temperature(before, truth, classifier.task)
    if divisor > _MOST:
        raise InputError(f"{run.path}: the probabilities say nothing about its validation images; no scale mends that")
    layers[0].set_weights([array / divisor for array in layers[0].get_weights()])
    after = classifier.predict_rows(run.store, rows)
    once = Bootstrap(None, len(rows), resamples=0)
    losses = [float(cross_entropy(values, truth, once, classifier.task)[0]) for values in (before, after)]
    facts = {"temperature": divisor, "images": len(rows), "cross_entropy": losses}
    metadata = classifier.metadata | {"calibration": facts}
    if classifier.task == "independent":
        metadata["thresholds"] = dict(zip(classifier.classes, _rescaled(classifier.thresholds, divisor), strict=True))
    return save_weights(classifier.model, out, metadata), facts


def _rescaled(thresholds: np.ndarray, divisor: float) -> list[float]:
    """Thresholds that call the same images after the logits were divided."""
    odds = (thresholds / np.maximum(1 - thresholds, TINY)) ** (1 / divisor)
    return (odds / (1 + odds)).tolist()
