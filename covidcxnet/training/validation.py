"""Validation figures over the whole validation set at once: exact, not averaged over batches or bins."""

from __future__ import annotations

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


def source_weights(labels: np.ndarray, sources: np.ndarray, classes: int) -> np.ndarray:
    """Weight of each image so that all classes count the same and, within one, each source by the root of its images.

    Parameters
    ----------
    labels : int array [N]
        Class indices; each class has one image at least.
    sources : array [N]
        Name of each image's source.
    classes : int

    Returns
    -------
    float32 [N]
        Mean 1.

    Examples
    --------
    >>> import numpy as np
    >>> source_weights(np.array([0, 0, 0, 0, 0, 1]), np.array(["a", "a", "a", "a", "b", "c"]), 2).round(2).tolist()
    [0.5, 0.5, 0.5, 0.5, 1.0, 3.0]
    """
    _, cells = np.unique(np.stack([labels.astype(str), np.asarray(sources, str)]), axis=1, return_inverse=True)
    cells = cells.ravel()
    rooted = 1 / np.sqrt(np.bincount(cells)[cells])
    shares = np.bincount(labels, weights=rooted, minlength=classes)
    return (len(labels) * rooted / (classes * shares[labels])).astype("float32")


def validation_figures(targets: np.ndarray, probabilities: np.ndarray, loss) -> dict[str, float]:
    """Loss, accuracy, AUROC and average precision of predictions.

    Parameters
    ----------
    targets : float array [N, 1] or [N, n]
        As from `targets_for`.
    probabilities : float array, same shape
    loss : callable
        ``loss(targets, probabilities) -> scalar``.

    Returns
    -------
    dict
        ``val_loss``, ``val_accuracy``, ``val_auroc``, ``val_average_precision``; the last two macro-averaged over
        classes, each against the rest. NaN where the predictions are not finite.
    """
    import keras
    from sklearn.metrics import average_precision_score, roc_auc_score

    names = ("val_loss", "val_accuracy", "val_auroc", "val_average_precision")
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
    return dict(zip(names, (value, float(np.mean(right)), float(auroc), float(precision)), strict=True))
