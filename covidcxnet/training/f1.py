"""F1: of each class and macro-averaged, while training and on whole sets."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

THRESHOLD = 0.5


def f1_by_class(targets: np.ndarray, probabilities: np.ndarray, *, independent: bool = False) -> np.ndarray:
    """F1 of each class at a threshold of 0.5, or of the likeliest class.

    Parameters
    ----------
    targets : float array [N, 1] or [N, n]
        1, 0; with `independent` below 0 for unknown, which is not counted.
    probabilities : float array, same shape
        One column is the second of two classes, of which both are told.
    independent : bool
        Columns are findings that do not exclude each other, each with its own threshold.

    Returns
    -------
    float array [2] or [n]
        2 TP / (2 TP + FP + FN); 0 where there is nothing to find and nothing found.

    Examples
    --------
    >>> f1_by_class(np.array([[0.0], [1.0], [1.0]]), np.array([[0.2], [0.9], [0.1]])).round(2).tolist()
    [0.67, 0.67]
    """
    return np.asarray(ops.convert_to_numpy(_f1(*_counts(targets, probabilities, independent))), np.float64)


class MacroF1(keras.metrics.Metric):
    """Macro-averaged F1 over the batches of an epoch: the mean of `f1_by_class`.

    Parameters
    ----------
    outputs : int
        Units of the model; 1 stands for two classes.
    independent : bool
        As in `f1_by_class`.
    """

    def __init__(self, outputs: int, *, independent: bool = False, name: str = "f1"):
        super().__init__(name=name)
        self.independent = independent
        classes = 2 if outputs == 1 and not independent else outputs
        for kind in ("hits", "found", "true"):
            setattr(self, kind, self.add_weight(shape=(classes,), initializer="zeros", name=kind))

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Count a batch; weights of images are without effect, as in accuracy."""
        counts = _counts(y_true, y_pred, self.independent)
        for total, count in zip((self.hits, self.found, self.true), counts, strict=True):
            total.assign_add(count)

    def result(self):
        """Scalar in 0..1."""
        return ops.mean(_f1(self.hits, self.found, self.true))


def _counts(targets, probabilities, independent: bool):
    """Images of each class rightly found, found and true, float32 ``[classes]`` each."""
    targets, probabilities = (ops.cast(values, "float32") for values in (targets, probabilities))
    known = ops.cast(targets >= 0, "float32") if independent else 1.0
    found, true = (_chosen(values, independent) * known for values in (probabilities, targets))
    return tuple(ops.sum(values, axis=0) for values in (found * true, found, true))


def _chosen(values, independent: bool):
    """1 where a class is chosen, ``[N, classes]``."""
    columns = values.shape[-1]
    if columns == 1 or independent:
        above = ops.cast(values >= THRESHOLD, "float32")
        return above if independent else ops.concatenate([1 - above, above], axis=-1)
    return ops.one_hot(ops.argmax(values, axis=-1), columns)


def _f1(hits, found, true):
    return 2 * hits / ops.maximum(found + true, 1e-7)
