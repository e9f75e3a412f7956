"""Multi-label training: a loss that passes over unknown findings, figures by finding, thresholds from validation.

The weights of the loss are CheXNet's (Rajpurkar et al. 2017, "CheXNet: radiologist-level pneumonia detection on chest
X-rays with deep learning", section 2.1), for each finding by itself: ``w+ = N- / N`` and ``w- = N+ / N`` of the images
in which it is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from covidcxnet.datasets.vocabulary import independent_targets, refuse_one_sided

from . import data
from .f1 import MacroF1, f1_by_class
from .fitting import Fitting
from .recipe import Recipe
from .run import rows_of

if TYPE_CHECKING:
    import pandas as pd

    from covidcxnet.preparation import Store

TINY = 1e-7  # Keras' own bound of probabilities in logarithms
THRESHOLD = "threshold_"


class KnownBinaryCrossentropy(keras.losses.Loss):
    """Binary cross-entropy of independent findings, NaN targets left out.

    Of an image it is the sum over its known findings, over their mean number in training: every known finding counts
    the same, in an image where much is known as in one where little is.

    Parameters
    ----------
    weights : float array [K, 2]
        Of present and absent, for each finding, as from `finding_weights`.
    known : float
        Mean number of known findings of a training image.
    smoothing : float
        Share of each target moved to one half.
    """

    def __init__(self, weights: np.ndarray, known: float, smoothing: float = 0.0, name: str = "known_bce"):
        super().__init__(name=name, reduction="sum_over_batch_size")
        self.weights, self.known, self.smoothing = np.asarray(weights, "float32"), float(known), float(smoothing)

    def call(self, y_true, y_pred):
        """Loss of each image, float32 [N]."""
        unknown = ops.isnan(y_true)
        truth = ops.where(unknown, 0.0, y_true)
        truth = truth * (1.0 - self.smoothing) + 0.5 * self.smoothing
        chance = ops.clip(y_pred, TINY, 1.0 - TINY)
        losses = -(self.weights[:, 0] * truth * ops.log(chance))
        losses = losses - self.weights[:, 1] * (1.0 - truth) * ops.log(1.0 - chance)
        return ops.sum(ops.where(unknown, 0.0, losses), axis=-1) / self.known


def finding_weights(targets: np.ndarray) -> np.ndarray:
    """CheXNet's weights of present and absent for each finding, float32 [K, 2].

    Examples
    --------
    >>> finding_weights(np.array([[1.0], [0.0], [0.0], [0.0], [np.nan]])).tolist()
    [[0.75, 0.25]]
    """
    present, absent = (targets == 1).sum(axis=0), (targets == 0).sum(axis=0)
    return np.stack([absent, present], axis=1).astype("float32") / np.maximum(present + absent, 1)[:, None]


def sides(recipe: Recipe, store: Store, split: pd.DataFrame, classes: Sequence[str]) -> tuple[data.Side, data.Side]:
    """Train and validation; `InputError` if a finding is never present, or never absent, on one of them."""
    targets = independent_targets(store.table, classes)
    made = []
    for name in ("train", "validation"):
        rows = rows_of(store, split, name)
        refuse_one_sided(targets[rows], classes, name)
        made.append(data.Side(rows, targets[rows]))
    return made[0], made[1]


def multilabel_figures(
    targets: np.ndarray, probabilities: np.ndarray, loss: Any, classes: Sequence[str]
) -> dict[str, float]:
    """Validation figures, macro-averaged over findings, each over the images in which it is known.

    Parameters
    ----------
    targets : float array [N, K]
        1, 0, NaN; each finding present in one image and absent in another.
    probabilities : float array [N, K]
    loss : callable
        ``loss(targets, probabilities) -> scalar``.
    classes : sequence of str

    Returns
    -------
    dict
        ``val_loss``, ``val_accuracy``, ``val_auroc``, ``val_average_precision`` and ``val_f1`` (at 0.5);
        ``val_f1_<finding>``; ``threshold_<finding>`` from `best_thresholds`. NaN where predictions are not finite.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    names = ("val_loss", "val_accuracy", "val_auroc", "val_average_precision", "val_f1")
    own = [f"val_f1_{name}" for name in classes] + [f"{THRESHOLD}{name}" for name in classes]
    if not np.isfinite(probabilities).all():
        return dict.fromkeys((*names, *own), float("nan"))
    value = ops.convert_to_numpy(loss(targets.astype("float32"), probabilities.astype("float32")))
    rows = []
    for truth, chance in zip(targets.T, probabilities.T, strict=True):
        known = ~np.isnan(truth)
        truth, chance = truth[known], chance[known]
        accuracy = ((chance >= 0.5) == (truth == 1)).mean()
        rows.append((accuracy, roc_auc_score(truth, chance), average_precision_score(truth, chance)))
    f1 = f1_by_class(targets, probabilities, independent=True)
    made = (value, *np.mean(rows, axis=0), f1.mean(), *f1, *best_thresholds(targets, probabilities))
    return {name: float(figure) for name, figure in zip((*names, *own), made, strict=True)}


def best_thresholds(targets: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Threshold of the highest F1 for each finding, in the middle of the gap it lies in; float64 [K].

    Parameters
    ----------
    targets : float array [N, K]
        1, 0, NaN; a finding that is never present gets 0.5.
    probabilities : float array [N, K]

    Notes
    -----
    Lipton, Elkan and Naryanaswamy 2014, "Optimal thresholding of classifiers to maximize F1 measure": a finding about
    which a model knows nothing is best called in every image, so that a good F1 alone shows no skill.
    """
    return np.array([_best_threshold(t, p) for t, p in zip(targets.T, probabilities.T, strict=True)])


def _best_threshold(truth: np.ndarray, chance: np.ndarray) -> float:
    known = ~np.isnan(truth)
    truth, chance = truth[known] == 1, np.asarray(chance, np.float64)[known]
    if not truth.any():
        return 0.5
    order = np.argsort(-chance, kind="stable")
    descending = chance[order]
    last = np.flatnonzero(np.r_[np.diff(descending) != 0, True])  # calls change only where the probability does
    hits = np.cumsum(truth[order])[last]
    best = int(np.argmax(2 * hits / (last + 1 + truth.sum())))
    lower = descending[last[best + 1]] if best + 1 < len(last) else 0.0
    return float((descending[last[best]] + lower) / 2)


class MultilabelFitting(Fitting):
    """A `Fitting` of independent findings; see there."""

    def _sides(self) -> tuple[data.Side, data.Side]:
        return sides(self.recipe, self.run.store, self.run.split, self.classes)

    def _loss(self) -> KnownBinaryCrossentropy:
        targets = self.train.targets
        balanced = self.recipe.class_weights == "balanced"
        weights = finding_weights(targets) if balanced else np.ones((len(self.classes), 2), "float32")
        return KnownBinaryCrossentropy(
            weights, float((~np.isnan(targets)).sum(axis=1).mean()), self.recipe.label_smoothing
        )

    def _metrics(self) -> list:
        return [MacroF1(len(self.classes), independent=True)]

    def _figures(self, probabilities: np.ndarray) -> dict[str, float]:
        return multilabel_figures(self.validation.targets, probabilities, self.loss, self.classes)

    def _metadata(self, epoch: int, figures: dict[str, float]) -> dict[str, Any]:
        thresholds = {name: round(float(figures[THRESHOLD + name]), 7) for name in self.classes}
        return super()._metadata(epoch, figures) | {"multilabel": True, "thresholds": thresholds}
