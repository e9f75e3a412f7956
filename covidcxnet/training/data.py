"""From a recipe to the images of a run: data set, split, prepared store, and the targets and weights of its rows.

Training sees train and validation rows only; the test rows are prepared with the others and not opened.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from covidcxnet.datasets.vocabulary import independent_targets, refuse_one_sided
from enhancement.errors import InputError

from .recipe import Recipe
from .run import rows_of
from .sampling import Sampler, sampler_for, without_class_share
from .validation import balanced_weights, source_weights, targets_for

if TYPE_CHECKING:
    import pandas as pd

    from covidcxnet.datasets import Dataset
    from covidcxnet.preparation import Store
    from segmentation.segmenter import LungSegmenter


@dataclass(frozen=True)
class Side:
    """One side of the split: rows of the store ``int64 [n]``, their targets, and their weights in the loss or None.

    `sampler` says which of them an epoch shows; None is each once.
    """

    rows: np.ndarray
    targets: np.ndarray
    weights: np.ndarray | None = None
    sampler: Sampler | None = None

    @property
    def shown(self) -> int:
        """Images in one epoch."""
        return len(self.rows if self.sampler is None else self.sampler)


def split_of(recipe: Recipe, dataset: Dataset) -> pd.DataFrame:
    """The recipe's split of a data set: read from its file, or made."""
    from covidcxnet.datasets import read_split, split

    if recipe.split:
        return read_split(recipe.split, dataset, by=recipe.split_by)
    return split(dataset, recipe.fractions, seed=recipe.seed, by=recipe.split_by, holdout=recipe.holdout or None)


def refuse_empty(split: pd.DataFrame, dataset: Dataset) -> None:
    """`InputError` if a class has no image in train or validation, said before anything is prepared."""
    for name in ("train", "validation"):
        if dataset.task == "independent":
            refuse_one_sided(dataset.targets[(split["split"] == name).to_numpy()], dataset.classes, name)
            continue
        there = set(dataset.table["label"][(split["split"] == name).to_numpy()])
        if missing := [label for label in dataset.classes if label not in there]:
            raise InputError(
                f"split: no {missing[0]} image in {name}; give more images, other fractions or another seed, "
                f"or leave {missing[0]} out of classes"
            )


def store_path(recipe: Recipe, dataset: Dataset) -> Path:
    """Where the stacks of this data under these settings lie, so that runs share them."""
    if recipe.store:
        return Path(recipe.store)
    digest = hashlib.sha256(f"{dataset.root.absolute()}\0{dataset.classes}\0{recipe.input.key}".encode())
    for path, label in zip(dataset.table["path"], dataset.table["label"], strict=True):
        digest.update(f"\0{path}\0{label}".encode())
    name = re.sub(r"[^\w.-]+", "-", dataset.name).strip("-") or "data"
    return Path("prepared") / f"{name}-{recipe.input.size}-{digest.hexdigest()[:10]}.h5"


def segmenter_of(recipe: Recipe) -> LungSegmenter | None:
    """The recipe's lung segmenter where its region needs lungs; `InputError` if there is none of that name."""
    if recipe.input.region == "none":
        return None
    from segmentation.segmenter import LungSegmenter

    try:
        return LungSegmenter(recipe.input.segmenter)
    except InputError as error:
        reason = error.args[0] if error.args else error
        raise InputError(f"input.region: {recipe.input.region} needs a lung segmenter; {reason}") from error


def prepared(recipe: Recipe, dataset: Dataset, path: Path) -> Store:
    """Prepare what is not yet prepared. Where the recipe's region needs lungs, its segmenter finds them."""
    from covidcxnet.preparation import prepare

    return prepare(dataset, recipe.input, path, segmenter=segmenter_of(recipe), jobs=recipe.jobs or None)


def sides(recipe: Recipe, store: Store, split: pd.DataFrame, classes: tuple[str, ...]) -> tuple[Side, Side]:
    """Train and validation; `InputError` if a class is missing on one of them."""
    labels = np.array([classes.index(label) for label in store.table["label"]], dtype=np.int64)
    made = []
    for name in ("train", "validation"):
        rows = rows_of(store, split, name)
        counts = np.bincount(labels[rows], minlength=len(classes))
        if (counts == 0).any():
            missing = classes[int(np.argmin(counts))]
            raise InputError(
                f"split: no readable {missing} image in {name} ({len(rows)} images there); "
                "give more images, other fractions or another seed"
            )
        weights, sampler = None, None
        if name == "train":
            weights = weights_of(recipe, store, rows, labels[rows], len(classes))
            sampler = sampler_for(recipe.sampling, labels[rows], recipe.seed)
        made.append(Side(rows, targets_for(labels[rows], len(classes)), weights, sampler))
    return made[0], made[1]


def weights_of(recipe: Recipe, store: Store, rows: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray | None:
    """Weight of each training image in the loss, float32 [n]; None where all are 1.

    `labels` are class indices ``int [n]``, aligned with `rows`, below `classes`.
    """
    if recipe.class_weights == "none":
        return None
    if recipe.class_weights == "balanced":
        # Sampling has balanced the classes already; weights of what is shown are 1.
        return balanced_weights(labels, classes) if recipe.sampling == "none" else None
    if "source" not in store.table or store.table["source"].isna().any():
        asked = f"class_weights: {recipe.class_weights}"
        raise InputError(f"{asked} needs a source for each image; give the table that column, or balanced")
    weights = source_weights(labels, store.table["source"].to_numpy(str)[rows], recipe.class_weights == "source_rare")
    return weights if recipe.sampling == "none" else without_class_share(weights, labels)


def counts_of(
    store: Store, split: pd.DataFrame, classes: tuple[str, ...], multilabel: bool = False
) -> dict[str, dict[str, int]]:
    """Images by split and class, or finding present, of those that could be read."""
    if multilabel:
        targets = independent_targets(store.table, classes)
        rows = {name: rows_of(store, split, name) for name in ("train", "validation", "test")}
        present = {name: (targets[own] == 1).sum(axis=0).tolist() for name, own in rows.items()}
        return {name: dict(zip(classes, counts, strict=True)) for name, counts in present.items()}
    labels = store.table["label"].to_numpy()
    return {
        name: {label: int((labels[rows_of(store, split, name)] == label).sum()) for label in classes}
        for name in ("train", "validation", "test")
    }
