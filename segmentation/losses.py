"""Losses and metrics for masks that may be unknown: -1 in a target takes its pixel out of everything."""

from __future__ import annotations

import keras
from keras import ops

from enhancement.errors import InputError

# Keeps the Dice of two empty masks at 1 and its gradient finite.
_SMOOTH = 1.0


def dice_loss(targets, probabilities):
    """One minus the soft Dice coefficient, averaged over the masks that are known.

    Parameters
    ----------
    targets : tensor, float32 [N, H, W, K]
        0..1, or -1 where the mask is unknown.
    probabilities : tensor, float32 [N, H, W, K]

    Returns
    -------
    tensor, float32 [N]
        One value an image; over its known masks. 0 for an image of which nothing is known.
    """
    targets, probabilities, known = _parts(targets, probabilities)
    both = ops.sum(targets * probabilities, axis=(1, 2))
    either = ops.sum(targets, axis=(1, 2)) + ops.sum(probabilities, axis=(1, 2))
    return _over_masks(1.0 - (2.0 * both + _SMOOTH) / (either + _SMOOTH), known)


def bce_loss(targets, probabilities):
    """Binary cross-entropy, averaged over the pixels that are known; shapes as in `dice_loss`."""
    targets, probabilities, known = _parts(targets, probabilities)
    p = ops.clip(probabilities, 1e-6, 1.0 - 1e-6)
    entropy = -(targets * ops.log(p) + (1.0 - targets) * ops.log(1.0 - p)) * known
    pixels = ops.maximum(ops.sum(known, axis=(1, 2)), 1.0)
    return _over_masks(ops.sum(entropy, axis=(1, 2)) / pixels, known)


def combined_loss(targets, probabilities):
    """`dice_loss` plus `bce_loss`: Dice for the whole mask, cross-entropy for honest probabilities."""
    return dice_loss(targets, probabilities) + bce_loss(targets, probabilities)


LOSSES = {"dice": dice_loss, "bce": bce_loss, "combined": combined_loss}


def loss_named(name: str):
    """The loss called `name`: "dice", "bce" or "combined"."""
    if name not in LOSSES:
        raise InputError(f"loss: {name!r} given, one of {', '.join(LOSSES)} expected")
    return LOSSES[name]


class _MaskMetric(keras.metrics.Metric):
    """Mean over known masks of a score of the thresholded map; `output` picks one map, None takes all."""

    def __init__(self, threshold: float = 0.5, output: int | None = None, name: str | None = None, **options):
        super().__init__(name=name or type(self).__name__.lower(), **options)
        self.threshold, self.output = threshold, output
        self.total = self.add_weight(name="total", initializer="zeros")
        self.count = self.add_weight(name="count", initializer="zeros")

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Add one batch of targets and probabilities, ``float32 [N, H, W, K]``."""
        if self.output is not None:
            y_true = y_true[..., self.output : self.output + 1]
            y_pred = y_pred[..., self.output : self.output + 1]
        targets, found, known = _parts(y_true, ops.cast(y_pred >= self.threshold, "float32"))
        targets = ops.cast(targets >= 0.5, "float32") * known
        both = ops.sum(targets * found, axis=(1, 2))
        sizes = ops.sum(targets, axis=(1, 2)) + ops.sum(found, axis=(1, 2))
        counted = ops.cast(ops.any(known > 0, axis=(1, 2)), "float32")
        self.total.assign_add(ops.sum(self._score(both, sizes) * counted))
        self.count.assign_add(ops.sum(counted))

    def result(self):
        """Mean score so far; 0 where no mask was known."""
        return self.total / ops.maximum(self.count, 1.0)

    def get_config(self):
        """Arguments of the constructor."""
        return {**super().get_config(), "threshold": self.threshold, "output": self.output}

    def _score(self, both, sizes):
        raise NotImplementedError


class DiceScore(_MaskMetric):
    """Mean Dice coefficient of thresholded masks, 0..1; two empty masks count as 1.

    Parameters
    ----------
    threshold : float
        Probability from which a pixel is lung.
    output : int or None
        Which mask convention to count; None counts all that are known.
    """

    def _score(self, both, sizes):
        return ops.where(sizes > 0, 2.0 * both / ops.maximum(sizes, 1.0), 1.0)


class IoU(_MaskMetric):
    """Mean intersection over union (Jaccard index) of thresholded masks; arguments as in `DiceScore`."""

    def _score(self, both, sizes):
        return ops.where(sizes > 0, both / ops.maximum(sizes - both, 1.0), 1.0)


def _parts(targets, probabilities):
    targets, probabilities = ops.cast(targets, "float32"), ops.cast(probabilities, "float32")
    known = ops.cast(targets >= 0.0, "float32")
    return targets * known, probabilities * known, known


def _over_masks(values, known):
    """Mean over the masks [N, K] of which any pixel is known."""
    counted = ops.cast(ops.any(known > 0, axis=(1, 2)), "float32")
    return ops.sum(values * counted, axis=-1) / ops.maximum(ops.sum(counted, axis=-1), 1.0)
