"""Validation figures over the whole validation set at once: exact, not averaged over batches or bins."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def targets_for(labels: np.ndarray, classes: int) -> np.ndarray:
    """Targets of class indices ``int [N]``: ``float32 [N, 1]`` for two classes, one-hot ``[N, n]`` for more."""
    if classes == 2:
        return np.asarray(labels, "float32")[:, None]
    return np.eye(classes, dtype="float32")[np.asarray(labels)]


def loss_for(classes: int, smoothing: float):
    """Cross-entropy with label smoothing: binary for two classes, categorical for more."""
    import keras

    kind = keras.losses.BinaryCrossentropy if classes == 2 else keras.losses.CategoricalCrossentropy
    return kind(label_smoothing=smoothing)


def balanced_weights(labels: np.ndarray, classes: int) -> np.ndarray:
    """Weight of each image so that all classes count the same: ``N / (classes x images of its class)``, mean 1.

    Parameters
    ----------
    labels : int array [N]
        Class indices; each class has one image at least.
    classes : int

    Returns
    -------
    float32 [N]

    Examples
    --------
    >>> import numpy as np
    >>> balanced_weights(np.array([0, 0, 1]), 2).tolist()
    [0.75, 0.75, 1.5]
    """
    counts = np.bincount(labels, minlength=classes)
    return (len(labels) / (classes * counts[labels])).astype("float32")


def source_weights(labels: np.ndarray, sources: np.ndarray, rare: bool = False) -> np.ndarray:
    """Weight of each image so that the classes of a source count the same.

    Where a source has several classes, its look then tells nothing of the label; class weights over all sources would
    make the look of a source that is rich in a rare class a sign of that class. A source counts by the root of its
    images.

    Parameters
    ----------
    labels : int array [N]
        Class indices.
    sources : array [N]
        Name of each image's source.
    rare : bool
        A source also counts by the root of how rare its rarest class is over all sources, so that no class is lost.

    Returns
    -------
    float32 [N]
        Mean 1.

    Examples
    --------
    >>> import numpy as np
    >>> source_weights(np.array([0, 0, 0, 1, 0]), np.array(list("aaaab"))).astype(float).round(2).tolist()
    [0.56, 0.56, 0.56, 1.67, 1.67]
    >>> source_weights(np.array([0, 0, 0, 1, 0]), np.array(list("aaaab")), rare=True).astype(float).round(2).tolist()
    [0.67, 0.67, 0.67, 2.0, 1.0]
    """
    _, source = np.unique(np.asarray(sources, str), return_inverse=True)
    counts = np.zeros((source.max() + 1, int(labels.max()) + 1))
    np.add.at(counts, (source, labels), 1)
    has = counts > 0
    share = np.sqrt(counts.sum(axis=1)) / has.sum(axis=1)
    if rare:
        rarity = share.sum() / np.maximum(share @ has, 1e-12)  # of each class, while sources count by the root alone
        share *= np.sqrt((has * rarity).max(axis=1))
    weights = share[source] / counts[source, labels]
    return (weights / weights.mean()).astype("float32")


def validation_figures(
    targets: np.ndarray, probabilities: np.ndarray, loss, classes: Sequence[str] = ()
) -> dict[str, float]:
    """Loss, accuracy, AUROC, average precision and F1 of predictions.

    Parameters
    ----------
    targets : float array [N, 1] or [N, n]
        As from `targets_for`.
    probabilities : float array, same shape
    loss : callable
        ``loss(targets, probabilities) -> scalar``.
    classes : sequence of str
        Labels, for the F1 of each; empty leaves those out.

    Returns
    -------
    dict
        ``val_loss``, ``val_accuracy``, ``val_auroc``, ``val_average_precision``, ``val_f1``; the last three
        macro-averaged over classes, each against the rest; and ``val_f1_<label>`` of each. NaN where the predictions
        are not finite.
    """
    import keras
    from sklearn.metrics import average_precision_score, roc_auc_score

    from .f1 import f1_by_class

    own = [f"val_f1_{label}" for label in classes]
    names = ("val_loss", "val_accuracy", "val_auroc", "val_average_precision", "val_f1", *own)
    if not np.isfinite(probabilities).all():
        return dict.fromkeys(names, float("nan"))
    value = float(keras.ops.convert_to_numpy(loss(targets, probabilities.astype("float32"))))
    if targets.shape[1] == 1:
        right = (probabilities >= 0.5) == (targets >= 0.5)
    else:
        right = probabilities.argmax(axis=1) == targets.argmax(axis=1)
    columns = range(targets.shape[1])
    auroc = np.mean([roc_auc_score(targets[:, c], probabilities[:, c]) for c in columns])
    precision = np.mean([average_precision_score(targets[:, c], probabilities[:, c]) for c in columns])
    f1 = f1_by_class(targets, probabilities)
    made = (value, np.mean(right), auroc, precision, f1.mean(), *f1)
    return {name: float(figure) for name, figure in zip(names, made, strict=False)}
