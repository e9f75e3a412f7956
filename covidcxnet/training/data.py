"""From a recipe to what a run works on: lung segmenter, data set, split and prepared store."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np
import pandas as pd

from covidcxnet.cluster import Cluster
from covidcxnet.datasets import Dataset, load, read_split, split
from covidcxnet.datasets.dataset import with_verdicts
from covidcxnet.datasets.splits import split_of_folders, with_fewer
from covidcxnet.datasets.vocabulary import check_labels
from covidcxnet.preparation import Store, prepare
from covidcxnet.reporting.table import count
from enhancement.errors import InputError
from segmentation.segmenter import LungSegmenter

from .recipe import NEW_SPLIT, Recipe


def segmenter_of(recipe: Recipe, engine: str | None = None) -> LungSegmenter | None:
    """The recipe's lung segmenter where its region needs lungs; `InputError` if there is none of that name.

    The engine that runs it is no setting of a recipe: all of them agree, see `covidcxnet.preparation.prepare`.
    """
    if recipe.input.region == "none":
        return None
    try:
        return LungSegmenter(recipe.input.segmenter, engine=engine)
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
    """The recipe's split of a data set: read, that of its folders, or made.

    `InputError` if a class has a single image, train or validation lacks one, or most files of a table are missing.
    """
    check_present(recipe, dataset)
    if recipe.task == "exclusive":
        for label, images in zip(dataset.classes, np.bincount(dataset.targets, minlength=len(dataset.classes))):
            if images < 2:
                raise InputError(
                    f"classes: {label} has {count(int(images), 'image')}, 2 or more expected, to train and validate; "
                    f"give more images, or leave {label} out of classes"
                )
    if recipe.split not in ("", NEW_SPLIT):
        table = read_split(recipe.split, dataset, by=recipe.split_by)
    elif not (recipe.split or recipe.holdout) and Path(recipe.data).is_dir() and "published_split" in dataset.table:
        table = split_of_folders(dataset, recipe.data, recipe.fractions, seed=recipe.seed, by=recipe.split_by)
    else:
        holdout = recipe.holdout or None
        table = split(dataset, recipe.fractions, seed=recipe.seed, by=recipe.split_by, holdout=holdout)
    if recipe.train_images:
        table = with_fewer(table, dataset, recipe.train_images, seed=recipe.seed, by=recipe.split_by)
    for name in ("train", "validation"):
        check_labels(dataset.targets[(table["split"] == name).to_numpy()], dataset.classes, recipe.task, name)
    return table


def check_present(recipe: Recipe, dataset: Dataset) -> None:
    """`InputError` if more than half of a table's files are missing: the rest is not what is meant."""
    if not Path(recipe.data).is_file():
        return
    # Images that a check rejected are known to be missing.
    paths = [path for path, reason in zip(dataset.paths, dataset.rejected, strict=True) if not reason]
    missing = [path for path in paths if not path.is_file()]
    if len(missing) > len(paths) / 2:
        raise InputError(
            f"{recipe.data}: {len(missing)} of {count(len(paths), 'file')} missing, the first {missing[0]}; "
            "name the folder that the table's paths are relative to with --root"
        )


def store_of(
    recipe: Recipe,
    dataset: Dataset,
    segmenter: LungSegmenter | None,
    path: Path | None = None,
    cluster: Cluster | None = None,
) -> Store:
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
    return prepare(dataset, recipe.input, path, segmenter=segmenter, jobs=recipe.jobs or None, cluster=cluster)
