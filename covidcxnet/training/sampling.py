"""Sampling against class imbalance: which training images an epoch shows, as a function of (seed, epoch) alone.

A sampler is given the training rows' labels and nothing else, so that no image can leave the training split by it.
"""

from __future__ import annotations

import numpy as np

from enhancement.errors import InputError

SAMPLING = ("none", "oversample", "undersample")


class Sampler:
    """Positions of an epoch, every class as often as every other.

    Parameters
    ----------
    labels : int array [n]
        Class index of each training image.
    kind : {"oversample", "undersample"}
        "oversample" shows each class as often as the largest has images: all its images equally often, and what is
        left over as images drawn anew in each epoch. "undersample" shows as many of each class as the smallest has,
        drawn anew in each epoch without replacement.
    seed : int

    Raises
    ------
    InputError
        If there is no image, or `kind` is neither.

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
        generator = np.random.default_rng([self.seed, int(epoch)])
        drawn = []
        for members in self.members:
            whole, rest = divmod(self.each, len(members))
            drawn += [members] * whole + [generator.choice(members, rest, replace=False)]
        return generator.permutation(np.concatenate(drawn))


def sampler_for(kind: str, labels: np.ndarray, seed: int) -> Sampler | None:
    """The sampler of a recipe; None where each image is shown once an epoch."""
    return None if kind == "none" else Sampler(labels, kind, seed)


def without_class_share(weights: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Weights of images whose classes are already balanced by sampling: what differs within a class is kept.

    Counted on what an epoch shows, all classes have as many images, so that the class part of a weight is 1. Using
    weights of the unsampled counts on top would favour the small classes twice.

    Parameters
    ----------
    weights : float array [n]
        From the training images as they are.
    labels : int array [n]

    Returns
    -------
    float32 [n]
        Mean 1 within each class.

    Examples
    --------
    >>> without_class_share(np.array([0.5, 0.5, 2.0]), np.array([0, 0, 1])).tolist()
    [1.0, 1.0, 1.0]
    """
    counts = np.bincount(labels)
    sums = np.bincount(labels, np.asarray(weights, np.float64))
    return (weights * counts[labels] / sums[labels]).astype("float32")
