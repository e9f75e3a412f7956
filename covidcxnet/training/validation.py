"""Validation over the whole set at once, for both tasks: loss, F1, thresholds, figures, and whether training collapsed.

`independent` stands for findings that do not exclude each other; their targets are 1, 0 and NaN (unknown, left out).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from covidcxnet.models import MODELS
from segmentation.backend import keras, ops

from .recipe import Recipe

THRESHOLD = "threshold_"
TINY = 1e-7  # Keras' own bound of probabilities in logarithms
TUNING_RATE = 2e-4  # at which layers with pretrained weights keep what they know (docs/own-data.md)
UNBALANCED = 1.5  # times the smallest class that the largest has, from which balancing may help
FIGURES = ("val_loss", "val_accuracy", "val_auroc", "val_average_precision", "val_f1")


class KnownBinaryCrossentropy(keras.losses.Loss):
    """Binary cross-entropy of independent findings, NaN targets left out.

    The loss of an image is the sum over its known findings, over their mean number in training: every known finding
    counts the same, in an image where much is known as in one where little is. `weights` ``[K, 2]`` are those of
    present and absent; `smoothing` is the share of each target moved to one half.
    """

    def __init__(self, weights: np.ndarray, known: float, smoothing: float = 0.0, name: str = "known_bce"):
        super().__init__(name=name, reduction="sum_over_batch_size")
        self.weights, self.known, self.smoothing = np.asarray(weights, "float32"), float(known), float(smoothing)

    def call(self, y_true, y_pred):
        """Loss of each image, float32 [N]."""
        unknown = ops.isnan(y_true)
        # NaN times 0 is NaN, in the gradient too: unknown targets become 0 before the logarithms and are masked after.
        truth = ops.where(unknown, 0.0, y_true)
        truth = truth * (1.0 - self.smoothing) + 0.5 * self.smoothing
        chance = ops.clip(y_pred, TINY, 1.0 - TINY)
        # A tensor, as NumPy on the left of a product would ask PyTorch for the values of a gradient.
        present, absent = ops.unstack(ops.convert_to_tensor(self.weights), axis=1)
        losses = -(present * truth * ops.log(chance))
        losses = losses - absent * (1.0 - truth) * ops.log(1.0 - chance)
        return ops.sum(ops.where(unknown, 0.0, losses), axis=-1) / self.known


def finding_weights(targets: np.ndarray) -> np.ndarray:
    """Weights of present and absent for each finding, float32 [K, 2]: ``N- / N`` and ``N+ / N`` of its known images."""
    # Rajpurkar et al. 2017, "CheXNet: radiologist-level pneumonia detection on chest X-rays with deep learning", 2.1.
    present, absent = (targets == 1).sum(axis=0), (targets == 0).sum(axis=0)
    return np.stack([absent, present], axis=1).astype("float32") / np.maximum(present + absent, 1)[:, None]


def loss_for(recipe: Recipe, targets: np.ndarray) -> keras.losses.Loss:
    """Cross-entropy of a recipe with its label smoothing, for training targets ``[N, 1]`` or ``[N, K]``."""
    if recipe.task == "exclusive":
        kind = keras.losses.BinaryCrossentropy if targets.shape[1] == 1 else keras.losses.CategoricalCrossentropy
        return kind(label_smoothing=recipe.label_smoothing)
    balanced = recipe.class_weights == "balanced"
    weights = finding_weights(targets) if balanced else np.ones((targets.shape[1], 2), "float32")
    return KnownBinaryCrossentropy(weights, float((~np.isnan(targets)).sum(axis=1).mean()), recipe.label_smoothing)


def f1_by_class(targets: np.ndarray, probabilities: np.ndarray, *, independent: bool = False) -> np.ndarray:
    """F1 of each class at a threshold of 0.5, or of the likeliest class; float64 [2] or [n].

    One column is the second of two classes, of which both are returned, unless columns are `independent` findings:
    there NaN or a target below 0 is unknown and not counted.
    """
    return np.asarray(ops.convert_to_numpy(_f1(*_counts(targets, probabilities, independent))), np.float64)


class MacroF1(keras.metrics.Metric):
    """Macro-averaged F1 over the batches of an epoch: the mean of `f1_by_class`."""

    def __init__(self, outputs: int, *, independent: bool = False, name: str = "f1"):
        super().__init__(name=name)
        self.independent = independent
        classes = 2 if outputs == 1 and not independent else outputs
        self.totals = [
            self.add_weight(shape=(classes,), initializer="zeros", name=kind) for kind in ("tp", "predicted", "true")
        ]

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Count a batch; weights of images are without effect, as in accuracy."""
        for total, count in zip(self.totals, _counts(y_true, y_pred, self.independent), strict=True):
            total.assign_add(count)

    def result(self):
        """Scalar in 0..1."""
        return ops.mean(_f1(*self.totals))


def _counts(targets, probabilities, independent: bool):
    """True positives, predicted and true images of each class, float32 ``[classes]`` each."""
    targets, probabilities = (ops.cast(values, "float32") for values in (targets, probabilities))
    known = ops.cast(targets >= 0, "float32") if independent else 1.0
    predicted, true = (_decided(values, independent) * known for values in (probabilities, targets))
    return tuple(ops.sum(values, axis=0) for values in (predicted * true, predicted, true))


def _decided(values, independent: bool):
    """1 for a class decided on, ``[N, classes]``: at 0.5 for one column or independent ones, else the largest."""
    columns = values.shape[-1]
    if columns == 1 or independent:
        above = ops.cast(values >= 0.5, "float32")
        return above if independent else ops.concatenate([1 - above, above], axis=-1)
    return ops.one_hot(ops.argmax(values, axis=-1), columns)


def _f1(tp, predicted, true):
    # 0 and not undefined for a class neither there nor predicted: what picks an epoch must be a number.
    return 2 * tp / ops.maximum(predicted + true, 1e-7)


def best_thresholds(targets: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Threshold of the highest F1 for each finding, in the middle of the gap it lies in; float64 [K].

    Targets are 1, 0, NaN; a finding that is never present gets 0.5.
    """
    # Lipton, Elkan and Naryanaswamy 2014, "Optimal thresholding of classifiers to maximize F1 measure": a finding about
    # which a model knows nothing is best called in every image, so that a good F1 alone shows no skill.
    return np.array([_best_threshold(t, p) for t, p in zip(targets.T, probabilities.T, strict=True)])


def _best_threshold(truth: np.ndarray, chance: np.ndarray) -> float:
    known = ~np.isnan(truth)
    truth, chance = truth[known] == 1, np.asarray(chance, np.float64)[known]
    if not truth.any():
        return 0.5
    order = np.argsort(-chance, kind="stable")
    descending = chance[order]
    last = np.flatnonzero(np.r_[np.diff(descending) != 0, True])  # decisions change only where the probability does
    tp = np.cumsum(truth[order])[last]
    best = int(np.argmax(2 * tp / (last + 1 + truth.sum())))
    # Below the lowest probability everything is called positive already.
    lower = descending[last[best + 1]] if best + 1 < len(last) else 0.0
    return float((descending[last[best]] + lower) / 2)


def validation_figures(
    targets: np.ndarray, probabilities: np.ndarray, loss: Any, classes: Sequence[str] = (), *, independent: bool = False
) -> dict[str, float]:
    """Loss, accuracy, AUROC, average precision and F1 of predictions; NaN where predictions are not finite.

    The last three are means over the columns, each of its known images. With `classes` there is ``val_f1_LABEL`` of
    each, and of `independent` findings ``threshold_LABEL`` from `best_thresholds`.
    """
    names = [*FIGURES, *(f"val_f1_{label}" for label in classes)]
    names += [f"{THRESHOLD}{label}" for label in classes] if independent else []
    if not np.isfinite(probabilities).all():
        return dict.fromkeys(names, float("nan"))
    value = ops.convert_to_numpy(loss(targets.astype("float32"), probabilities.astype("float32")))
    rows = []
    for truth, chance in zip(targets.T, probabilities.T, strict=True):
        known = ~np.isnan(truth)
        truth, chance = truth[known], chance[known]
        right = ((chance >= 0.5) == (truth >= 0.5)).mean()
        rows.append((right, roc_auc_score(truth, chance), average_precision_score(truth, chance)))
    accuracy, auroc, precision = np.mean(rows, axis=0)
    # Exclusive classes have one decision an image, the largest probability; independent ones have one a column.
    if not independent and targets.shape[1] > 1:
        accuracy = np.mean(probabilities.argmax(axis=1) == targets.argmax(axis=1))
    f1 = f1_by_class(targets, probabilities, independent=independent)
    thresholds = best_thresholds(targets, probabilities) if independent else ()
    figures = (value, accuracy, auroc, precision, f1.mean(), *f1, *thresholds)
    return {name: float(figure) for name, figure in zip(names, figures, strict=False)}


def all_equal(probabilities: np.ndarray) -> bool:
    """Whether every image gets the same prediction, ``float array [N, n]``: AUROC is then 0.5 whatever the truth."""
    # Bitwise: a network that is merely unsure still differs in the last digits.
    return len(probabilities) > 1 and bool((probabilities == probabilities[:1]).all())


def equal_message(recipe: Recipe) -> str:
    """What `all_equal` means, and what helps."""
    if MODELS[recipe.model].solve:
        return "all predictions are equal: no pixel counts; a larger options.C helps"
    # A ReLU that is 0 for every image has no gradient and stays so. After one large step all units of a small layer can
    # be, and what is left of the network is the bias of its output.
    warmer = "a longer warmup" if recipe.schedule == "cosine" else "schedule cosine with a warmup"
    return (
        f"all predictions are equal: the units before the output died; lower learning_rate or {warmer}, and train anew"
    )


def collapsed(figures: Mapping[str, float]) -> list[str]:
    """Labels whose F1 is 0: none of their images is found, which a mean over classes or an AUROC can hide."""
    prefix = "val_f1_"
    return [name.removeprefix(prefix) for name, value in figures.items() if name.startswith(prefix) and value == 0]


def collapse_message(labels: Sequence[str], recipe: Recipe, targets: np.ndarray, norms: bool = False) -> str:
    """What `collapsed` means, and what helps that the recipe does not do already.

    `targets` ``[N, 1]`` or ``[N, K]`` are those of training; `norms` says whether the model has batch norms.
    """
    steps = not MODELS[recipe.model].solve
    # Large steps, and statistics of small batches, destroy what pretrained layers know.
    tuned = steps and recipe.init != "random" and recipe.trainable != "head"
    slower = tuned and recipe.learning_rate > TUNING_RATE
    rate = f"a lower learning_rate such as {TUNING_RATE:g}" if slower else "another learning_rate (covidcxnet find-lr)"
    helps = [rate] if steps else []
    helps += ["frozen_norms true"] if tuned and norms and not recipe.frozen_norms else []
    uneven = recipe.multilabel or _unbalanced(targets)
    helps += ["class_weights balanced"] if uneven and recipe.class_weights == "none" else []
    helps += ["sampling oversample"] if steps and uneven and not recipe.multilabel and recipe.sampling == "none" else []
    helps += ["monitor val_f1"] if steps and recipe.monitor != "val_f1" else []
    helps = helps or ["more images"]
    # Of three classes or more the likeliest is predicted, without a threshold.
    at = " at a threshold of 0.5" if recipe.multilabel or len(recipe.classes) == 2 else ""
    at += "; the weights come with thresholds of their own" if recipe.multilabel else ""
    text = f"no validation image of {', '.join(labels)} is found (F1 0{at})"
    return f"{text}; try {' or '.join(filter(None, (', '.join(helps[:-1]), helps[-1])))}"


def _unbalanced(targets: np.ndarray) -> bool:
    """Whether the largest of exclusive classes has far more images than the smallest."""
    images = ops.convert_to_numpy(ops.sum(_decided(ops.cast(targets, "float32"), independent=False), axis=0))
    return bool(images.max() > UNBALANCED * images.min())
