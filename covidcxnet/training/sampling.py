"""Which images an epoch shows, in which order, and what each weighs in the loss.

Rows of the store come from the split: training reads those of train and validation and never opens those of test. The
order of an epoch is a function of (seed, epoch): a permutation (`preparation.Batches`), or the draw of a `Sampler`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from covidcxnet.datasets import SPLITS
from covidcxnet.datasets.vocabulary import check_labels, independent_targets
from covidcxnet.preparation import Store
from enhancement.errors import InputError
from segmentation.backend import keras

from .recipe import Recipe

SAMPLING = ("none", "oversample", "undersample", "undersample_once")


@dataclass(frozen=True)
class Side:
    """One side of the split: rows of the store ``int64 [n]``, their targets, and their weights in the loss or None.

    `sampler` says which positions an epoch shows; None shows each once.
    """

    rows: np.ndarray
    targets: np.ndarray
    weights: np.ndarray | None = None
    sampler: Sampler | None = None

    @property
    def shown(self) -> int:
        """Images in one epoch."""
        return len(self.rows if self.sampler is None else self.sampler)


@dataclass(frozen=True)
class Summary:
    """Images by split and class (or finding present), images by split, and what `copies_of` gives."""

    classes: dict[str, dict[str, int]]
    sizes: dict[str, int]
    copies: dict[str, str]


def rows_of(store: Store, split: pd.DataFrame, name: str) -> np.ndarray:
    """Rows of `store` whose path has the split `name`, int64 [n], without exact copies of files in a later split."""
    if name not in SPLITS:
        raise InputError(f"split: {name!r} given, one of {', '.join(SPLITS)} expected")
    members, copies = set(split["path"][split["split"] == name]), copies_of(store, split)
    return np.flatnonzero([path in members and path not in copies for path in store.table["path"]])


def copies_of(store: Store, split: pd.DataFrame) -> dict[str, str]:
    """Paths of exact copies of a file in a later split, each to that file's path."""
    # A copy in test outweighs one in validation, and that one in train: nothing is tested on what was trained on.
    side = store.table["path"].map(split.set_index("path")["split"])
    rank = side.map({name: k for k, name in enumerate(SPLITS)})
    placed = store.table[["path", "sha256"]].assign(rank=rank).dropna()
    last = placed.sort_values("rank", ascending=False, kind="stable").drop_duplicates("sha256").set_index("sha256")
    earlier = placed[placed["rank"] < placed["sha256"].map(last["rank"])]
    return dict(zip(earlier["path"], earlier["sha256"].map(last["path"]), strict=True))


def labels_of(recipe: Recipe, store: Store) -> np.ndarray:
    """Class indices of a store's rows, int64 [N]; of independent findings 1 / 0 / NaN, float32 [N, K]."""
    # Unknown stays NaN in float32, so that the loss can mask it.
    if recipe.task == "independent":
        return independent_targets(store.table, recipe.classes)
    return np.array([recipe.classes.index(label) for label in store.table["label"]], dtype=np.int64)


def summary(recipe: Recipe, store: Store, split: pd.DataFrame) -> Summary:
    """What a run works on, of the images that could be read."""
    rows = {name: rows_of(store, split, name) for name in SPLITS}
    labels = labels_of(recipe, store)
    present = labels == 1 if recipe.task == "independent" else np.eye(len(recipe.classes), dtype=bool)[labels]
    counts = {
        name: dict(zip(recipe.classes, present[side].sum(axis=0).tolist(), strict=True)) for name, side in rows.items()
    }
    return Summary(counts, {name: len(side) for name, side in rows.items()}, copies_of(store, split))


def sides(recipe: Recipe, store: Store, split: pd.DataFrame) -> tuple[Side, Side]:
    """Train and validation; `InputError` if a class is missing on one of them."""
    labels, chosen = labels_of(recipe, store), []
    for name in ("train", "validation"):
        rows = rows_of(store, split, name)
        check_labels(labels[rows], recipe.classes, recipe.task, name, "readable ")
        if recipe.task == "independent":
            chosen.append(Side(rows, labels[rows]))
        else:
            chosen.append(side_of(recipe, store, rows, labels[rows], len(recipe.classes), weighted=name == "train"))
    return chosen[0], chosen[1]


def side_of(
    recipe: Recipe, store: Store, rows: np.ndarray, labels: np.ndarray, classes: int, *, weighted: bool
) -> Side:
    """A side of exclusive classes, `labels` being class indices aligned with `rows`; only training is weighted."""
    targets = targets_for(labels, classes)
    if not weighted:
        return Side(rows, targets)
    sampler = None if recipe.sampling == "none" else Sampler(labels, recipe.sampling, recipe.seed)
    weights = None  # all 1
    if recipe.class_weights == "balanced" and sampler is None:  # sampling has balanced the classes already
        weights = balanced_weights(labels, classes)
    elif recipe.class_weights in ("source", "source_rare"):
        if "source" not in store.table or store.table["source"].isna().any():
            raise InputError(
                f"class_weights: {recipe.class_weights} needs a source for each image; give the table that column, "
                "or balanced"
            )
        sources = store.table["source"].to_numpy(str)[rows]
        weights = source_weights(labels, sources, rare=recipe.class_weights == "source_rare")
        # Class and source are weighed together; after sampling only the source's part is left.
        weights = weights if sampler is None else without_class_share(weights, labels)
    return Side(rows, targets, weights, sampler)


def targets_for(labels: np.ndarray, classes: int) -> np.ndarray:
    """Targets of class indices ``int [N]``: ``float32 [N, 1]`` for two classes, one-hot ``[N, n]`` for more."""
    if classes == 2:
        return np.asarray(labels, "float32")[:, None]
    return np.eye(classes, dtype="float32")[np.asarray(labels)]


class Sampler:
    """Positions of an epoch, every class as often as every other: ``sampler(epoch) -> int64 [len(sampler)]``.

    "oversample" shows each class as often as the largest has images: all its images equally often, the remainder drawn
    anew in each epoch. "undersample" shows as many of each class as the smallest has, drawn anew in each epoch without
    replacement; "undersample_once" draws them once, and only their order changes.
    """

    # It knows the labels of training rows and nothing else, so that no image can leave the training split by it.
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
        # A seed sequence of both numbers: runs with neighbouring seeds share no epoch.
        generator = np.random.default_rng([self.seed, int(epoch)])
        if self.kind == "undersample_once":
            return generator.permutation(self._draw(np.random.default_rng([self.seed, 0])))
        return generator.permutation(self._draw(generator))

    def _draw(self, generator: np.random.Generator) -> np.ndarray:
        drawn = []
        for members in self.members:
            # Without replacement in the remainder too, so that times shown differ by one at most.
            whole, rest = divmod(self.each, len(members))
            drawn += [members] * whole + [generator.choice(members, rest, replace=False)]
        return np.concatenate(drawn)


def balanced_weights(labels: np.ndarray, classes: int) -> np.ndarray:
    """Weight of each image so that all classes count the same: ``N / (classes x images of its class)``, float32 [N]."""
    counts = np.bincount(labels, minlength=classes)
    return (len(labels) / (classes * counts[labels])).astype("float32")


def source_weights(labels: np.ndarray, sources: np.ndarray, rare: bool = False) -> np.ndarray:
    """Weight of each image so that the classes of a source count the same, float32 [N] of mean 1.

    A source counts by the root of its images; with `rare` also by the root of how rare its rarest class is over all
    sources, so that no class is lost.
    """
    # Where a source has several classes, its look then says nothing about the label; class weights over all sources
    # would make the look of a source that is rich in a rare class a sign of that class.
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
    """Weights of images whose classes sampling has balanced already: only what differs within a class remains."""
    # An epoch shows all classes equally often, so the class part of a weight is 1. Weights from the unsampled counts on
    # top would favour the small classes twice.
    counts = np.bincount(labels)
    sums = np.bincount(labels, np.asarray(weights, np.float64))
    return (weights * counts[labels] / sums[labels]).astype("float32")


class FeatureBatches(keras.utils.PyDataset):
    """Features in memory as `fit` wants them, shuffled by (seed, epoch) like the images that they came from."""

    def __init__(self, features, targets, weights=None, *, batch_size: int, seed: int, sampler=None):
        super().__init__()
        self.arrays = [array for array in (features, targets, weights) if array is not None]
        self.batch_size, self.seed, self.sampler = batch_size, seed, sampler
        self.part: Callable[[np.ndarray], np.ndarray] | None = None  # as in `preparation.Batches`
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Order of an epoch."""
        shuffled = np.random.default_rng([self.seed, epoch]).permutation(len(self.arrays[0]))
        self.order = shuffled if self.sampler is None else self.sampler(epoch)

    @property
    def rows(self) -> int:
        """Rows of an epoch."""
        return len(self.order)

    def __len__(self) -> int:
        return -(-len(self.order) // self.batch_size)

    def __getitem__(self, index: int):
        rows = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        rows = rows if self.part is None else self.part(rows)
        return tuple(array[rows] for array in self.arrays)
