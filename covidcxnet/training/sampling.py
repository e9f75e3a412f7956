"""Class imbalance: which training images an epoch shows, and what each weighs in the loss.

A sampler is a function of (seed, epoch) alone. It knows the labels of training rows and nothing else, so that no image
can leave the training split by it.
"""

from __future__ import annotations

import numpy as np

from enhancement.errors import InputError

SAMPLING = ("none", "oversample", "undersample")


class Sampler:
    """Positions of an epoch, every class as often as every other.

    "oversample" shows each class as often as the largest has images: all its images equally often, the remainder drawn
    anew in each epoch. "undersample" shows as many of each class as the smallest has, drawn anew in each epoch without
    replacement.

    Examples
    --------
    >>> sampler = Sampler(np.array([0, 0, 0, 1]), "oversample", seed=1)
    >>> len(sampler), sorted(sampler(0).tolist())
    (6, [0, 1, 2, 3, 3, 3])
    """

    def __init__(self, labels: np.ndarray, kind: str, seed: int):
        if kind not in SAMPLING[1:]:
            raise InputError(f"sampling: {kind!r} given, one of {', '.join(SAMPLING[1:])} expected")
        labels = np.asarray(labels, np.int64).reshape(-1)
        if not len(labels):
            raise InputError("sampling: no training image to draw from")
        self.kind, self.seed = kind, int(seed)
        self.members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
        sizes = [len(members) for members in self.members]
        self.each = max(sizes) if kind == "oversample" else min(sizes)

    def __len__(self) -> int:
        return self.each * len(self.members)

    def __call__(self, epoch: int) -> np.ndarray:
        """Positions into the training rows in the order of this epoch, int64 [len(self)]."""
        # A seed sequence of both numbers: runs with neighbouring seeds share no epoch.
        generator = np.random.default_rng([self.seed, int(epoch)])
        drawn = []
        for members in self.members:
            # Without replacement in the remainder too, so that times shown differ by one at most.
            whole, rest = divmod(self.each, len(members))
            drawn += [members] * whole + [generator.choice(members, rest, replace=False)]
        return generator.permutation(np.concatenate(drawn))


def balanced_weights(labels: np.ndarray, classes: int) -> np.ndarray:
    """Weight of each image so that all classes count the same: ``N / (classes x images of its class)``, float32 [N].

    Examples
    --------
    >>> balanced_weights(np.array([0, 0, 1]), 2).tolist()
    [0.75, 0.75, 1.5]
    """
    counts = np.bincount(labels, minlength=classes)
    return (len(labels) / (classes * counts[labels])).astype("float32")


def source_weights(labels: np.ndarray, sources: np.ndarray, rare: bool = False) -> np.ndarray:
    """Weight of each image so that the classes of a source count the same, float32 [N] of mean 1.

    Where a source has several classes, its look then says nothing about the label; class weights over all sources would
    make the look of a source that is rich in a rare class a sign of that class. A source counts by the root of its
    images; with `rare` also by the root of how rare its rarest class is over all sources, so that no class is lost.

    Examples
    --------
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


def without_class_share(weights: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Weights of images whose classes sampling has balanced already: only what differs within a class remains.

    An epoch shows all classes equally often, so the class part of a weight is 1. Weights from the unsampled counts on
    top would favour the small classes twice.

    Examples
    --------
    >>> without_class_share(np.array([0.5, 0.5, 2.0]), np.array([0, 0, 1])).tolist()
    [1.0, 1.0, 1.0]
    """
    counts = np.bincount(labels)
    sums = np.bincount(labels, np.asarray(weights, np.float64))
    return (weights * counts[labels] / sums[labels]).astype("float32")
