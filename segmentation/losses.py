"""Losses for masks that may be unknown: -1 in a target takes its pixel out of everything."""

from __future__ import annotations

from collections.abc import Callable

from enhancement.errors import InputError
from segmentation.backend import ops

LOSSES = ("combined", "dice", "bce")

# Keeps the Dice of two empty masks at 1 and its gradient finite.
_SMOOTH = 1.0


def loss_named(name: str) -> Callable:
    """A loss ``loss(targets, probabilities) -> float32 [N]`` of ``float32 [N, H, W, K]`` (targets 0..1, or -1 where
    unknown).

    "dice" is one minus the soft Dice coefficient, averaged over the masks that are known; "bce" binary cross-entropy,
    averaged over the pixels that are known; "combined" their sum. An image of which nothing is known costs 0.
    """
    if name not in LOSSES:
        raise InputError(f"loss: {name!r} given, one of {', '.join(LOSSES)} expected")

    def masked(targets, probabilities):
        targets, probabilities = ops.cast(targets, "float32"), ops.cast(probabilities, "float32")
        known = ops.cast(targets >= 0.0, "float32")
        return targets * known, probabilities * known, known

    def over_masks(values, known):
        counted = ops.cast(ops.any(known > 0, axis=(1, 2)), "float32")
        return ops.sum(values * counted, axis=-1) / ops.maximum(ops.sum(counted, axis=-1), 1.0)

    def dice(targets, probabilities):
        targets, probabilities, known = masked(targets, probabilities)
        both = ops.sum(targets * probabilities, axis=(1, 2))
        either = ops.sum(targets, axis=(1, 2)) + ops.sum(probabilities, axis=(1, 2))
        return over_masks(1.0 - (2.0 * both + _SMOOTH) / (either + _SMOOTH), known)

    def bce(targets, probabilities):
        targets, probabilities, known = masked(targets, probabilities)
        p = ops.clip(probabilities, 1e-6, 1.0 - 1e-6)
        entropy = -(targets * ops.log(p) + (1.0 - targets) * ops.log(1.0 - p)) * known
        pixels = ops.maximum(ops.sum(known, axis=(1, 2)), 1.0)
        return over_masks(ops.sum(entropy, axis=(1, 2)) / pixels, known)

    def combined(targets, probabilities):
        # Each masks for itself: shared arrays would add up gradients in another order, with other last bits.
        return dice(targets, probabilities) + bce(targets, probabilities)

    return {"dice": dice, "bce": bce, "combined": combined}[name]
