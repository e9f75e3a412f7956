"""From a recipe to the images of a run: data set, split, prepared store, and the targets and weights of its rows.

Training reads train and validation rows only; test rows are prepared with the others and not opened.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from covidcxnet.datasets import SPLITS, Dataset, load, read_split, split
from covidcxnet.datasets.dataset import with_verdicts
from covidcxnet.datasets.vocabulary import independent_targets, refuse_one_sided
from covidcxnet.preparation import Store, prepare
from enhancement.errors import InputError
from segmentation.segmenter import LungSegmenter

from .recipe import TRAINING_IMAGES, Recipe
from .sampling import Sampler, balanced_weights, source_weights, without_class_share


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
    """Images by split and class (or finding present), images by split, and copies that `rows_of` leaves out."""

    classes: dict[str, dict[str, int]]
    sizes: dict[str, int]
    copies: int


def check_files(recipe: Recipe) -> None:
    """`InputError` if a file that the recipe names is not there: said before images are read or made."""
    named = {"split": recipe.split, "verdicts": recipe.verdicts, "match_to": recipe.match_to}
    for key, path in named.items():
        if path and not (key == "match_to" and path == TRAINING_IMAGES) and not Path(path).is_file():
            raise InputError(f"{key}: {path}: no such file; give another, or leave {key} out")


def segmenter_of(recipe: Recipe) -> LungSegmenter | None:
    """The recipe's lung segmenter where its region needs lungs; `InputError` if there is none of that name."""
    if recipe.input.region == "none":
        return None
    try:
        return LungSegmenter(recipe.input.segmenter)
    except InputError as error:
        reason = error.args[0] if error.args else error
        raise InputError(f"input.region: {recipe.input.region} needs a lung segmenter; {reason}") from error


def dataset_of(recipe: Recipe, data: str | Path | None = None) -> Dataset:
    """The data set of a recipe, or the same from another place; the phantom has all three classes unless named."""
    dataset = load(
        data or recipe.data,
        root=recipe.root or None,
        classes=recipe.classes,
        where=recipe.where or None,
        task=recipe.task,
        phantom_images=recipe.phantom_images,
    )
    return with_verdicts(dataset, recipe.verdicts) if recipe.verdicts else dataset


def split_of(recipe: Recipe, dataset: Dataset) -> pd.DataFrame:
    """The recipe's split of a data set, read or made; `InputError` if train or validation lacks a class."""
    if recipe.split:
        table = read_split(recipe.split, dataset, by=recipe.split_by)
    else:
        holdout = recipe.holdout or None
        table = split(dataset, recipe.fractions, seed=recipe.seed, by=recipe.split_by, holdout=holdout)
    for name in ("train", "validation"):
        _check_side(dataset.targets[(table["split"] == name).to_numpy()], dataset.classes, name, recipe.task)
    return table


def store_of(recipe: Recipe, dataset: Dataset, segmenter: LungSegmenter | None, path: Path | None = None) -> Store:
    """The prepared stacks; what is prepared already is not done again.

    Without a path they lie where every run on this data under these input settings looks for them.
    """
    if path is None:
        # Paths and labels are part of the name: only runs on the same table share a store.
        digest = hashlib.sha256(f"{dataset.root.absolute()}\0{dataset.classes}\0{recipe.input.key}".encode())
        for image, label in zip(dataset.table["path"], dataset.table["label"], strict=True):
            digest.update(f"\0{image}\0{label}".encode())
        name = re.sub(r"[^\w.-]+", "-", dataset.name).strip("-") or "data"
        shared = Path("prepared") / f"{name}-{recipe.input.size}-{digest.hexdigest()[:10]}.h5"
        path = Path(recipe.store) if recipe.store else shared
    return prepare(dataset, recipe.input, path, segmenter=segmenter, jobs=recipe.jobs or None)


def rows_of(store: Store, split: pd.DataFrame, name: str) -> np.ndarray:
    """Rows of `store` whose path has the split `name`, int64 [n].

    A file whose exact copy stands under another path in validation or test is not among those of train, nor one whose
    copy stands in test among those of validation.
    """
    if name not in SPLITS:
        raise InputError(f"split: {name!r} given, one of {', '.join(SPLITS)} expected")
    by_path = dict(zip(split["path"], split["split"], strict=True))
    sides = np.array([by_path.get(path, "") for path in store.table["path"]], dtype=object)
    files = store.table["sha256"].to_numpy()
    # A copy in test outweighs one in validation, and that one in train: nothing is tested on what was trained on.
    later = set(files[np.isin(sides, SPLITS[SPLITS.index(name) + 1 :])])
    return np.flatnonzero([side == name and file not in later for side, file in zip(sides, files, strict=True)])


def labels_of(recipe: Recipe, store: Store) -> np.ndarray:
    """Class indices of a store's rows, int64 [N]; of independent findings 1 / 0 / NaN, float32 [N, K]."""
    # Unknown stays NaN in float32, so that the loss can mask it.
    if recipe.task == "independent":
        return independent_targets(store.table, recipe.classes)
    return np.array([recipe.classes.index(label) for label in store.table["label"]], dtype=np.int64)


def summary(recipe: Recipe, store: Store, split: pd.DataFrame) -> Summary:
    """What a run works on, of the images that could be read."""
    labels, table = labels_of(recipe, store), store.table
    present = labels == 1 if recipe.task == "independent" else np.eye(len(recipe.classes), dtype=bool)[labels]
    rows = {name: rows_of(store, split, name) for name in SPLITS}
    counts = {
        name: dict(zip(recipe.classes, present[side].sum(axis=0).tolist(), strict=True)) for name, side in rows.items()
    }
    sizes = {name: len(side) for name, side in rows.items()}
    placed = table["path"].isin(set(split["path"][split["split"].isin(SPLITS)])).sum()
    return Summary(counts, sizes, int(placed) - sum(sizes.values()))


def sides(recipe: Recipe, store: Store, split: pd.DataFrame) -> tuple[Side, Side]:
    """Train and validation; `InputError` if a class is missing on one of them."""
    labels, chosen = labels_of(recipe, store), []
    for name in ("train", "validation"):
        rows = rows_of(store, split, name)
        _check_side(labels[rows], recipe.classes, name, recipe.task, "readable ")
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
    return Side(rows, targets, _weights(recipe, store, rows, labels, classes), sampler)


def targets_for(labels: np.ndarray, classes: int) -> np.ndarray:
    """Targets of class indices ``int [N]``: ``float32 [N, 1]`` for two classes, one-hot ``[N, n]`` for more."""
    if classes == 2:
        return np.asarray(labels, "float32")[:, None]
    return np.eye(classes, dtype="float32")[np.asarray(labels)]


def _weights(recipe: Recipe, store: Store, rows: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray | None:
    """Weight of each training image in the loss, float32 [n]; None where all are 1."""
    if recipe.class_weights == "none":
        return None
    if recipe.class_weights == "balanced":
        # Sampling has balanced the classes already; weights of what is shown are 1.
        return balanced_weights(labels, classes) if recipe.sampling == "none" else None
    if "source" not in store.table or store.table["source"].isna().any():
        raise InputError(
            f"class_weights: {recipe.class_weights} needs a source for each image; give the table that column, or "
            "balanced"
        )
    # Class and source are weighed together; after sampling only the source's part is left.
    weights = source_weights(labels, store.table["source"].to_numpy(str)[rows], recipe.class_weights == "source_rare")
    return weights if recipe.sampling == "none" else without_class_share(weights, labels)


def _check_side(labels: np.ndarray, classes: tuple[str, ...], side: str, task: str, kind: str = "") -> None:
    """`InputError` if a class has no image on a side of the split, or a finding is never present or never absent."""
    if task == "independent":
        refuse_one_sided(labels, classes, side)
        return
    counts = np.bincount(labels, minlength=len(classes))
    if (counts == 0).any():
        missing = classes[int(np.argmin(counts))]
        raise InputError(
            f"split: no {kind}{missing} image in {side} ({len(labels)} images there); give more images, other "
            f"fractions or another seed, or leave {missing} out of classes"
        )
