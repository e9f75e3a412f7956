"""From a recipe to what a run works on: its files and folder, lung segmenter, data set, split and prepared store."""

from __future__ import annotations

import hashlib
import re
from contextlib import AbstractContextManager
from pathlib import Path

import pandas as pd

from covidcxnet.datasets import Dataset, load, read_split, split
from covidcxnet.datasets.dataset import with_verdicts
from covidcxnet.datasets.splits import split_of_folders
from covidcxnet.datasets.vocabulary import check_labels
from covidcxnet.preparation import Store, prepare
from enhancement.errors import InputError
from enhancement.files import check_output
from enhancement.lock import locked
from segmentation.segmenter import LungSegmenter

from .recipe import NEW_SPLIT, TRAINING_IMAGES, Recipe

LOCK = ".lock"


def check_files(recipe: Recipe) -> None:
    """`InputError` if a file that the recipe names is not there, before images are read or made."""
    named = {"split": recipe.split, "verdicts": recipe.verdicts, "match_to": recipe.match_to}
    words = {("split", NEW_SPLIT), ("match_to", TRAINING_IMAGES)}
    for key, path in named.items():
        if path and (key, path) not in words and not Path(path).is_file():
            raise InputError(f"{key}: {path}: no such file; give another, or leave {key} out")


def check_folder(recipe: Recipe, *, entered: bool = False) -> None:
    """`InputError` if the recipe's run folder cannot be written, or holds something else already.

    Also if another process trains there, unless it was `entered`: then this process has locked it.
    """
    path = Path(recipe.out)
    if not recipe.out:
        return
    if not path.exists():
        check_output(path, folder=True)
        return
    if not path.is_dir():
        raise InputError(f"out: {path} is a file; give the name of a new folder")
    if not entered and (path / LOCK).exists():
        with locked_folder(path):
            pass
    if (path / "state.h5").exists():
        # A run that never got to an epoch is written over.
        raise InputError(f"out: {path} holds a run; go on with it by --resume {path}, or name another folder")
    if {*path.iterdir()} - {path / LOCK} and not (path / "run.json").exists():
        raise InputError(f"out: {path} is not empty and no run; name a new folder")


def locked_folder(path: Path) -> AbstractContextManager[None]:
    """Context that keeps other trainings out of a run folder; `InputError` names the process that is in it."""
    return locked(path / LOCK, "trains in this folder")


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
    """The recipe's split of a data set: read, that of its folders, or made.

    `InputError` if train or validation lacks a class.
    """
    if recipe.split not in ("", NEW_SPLIT):
        table = read_split(recipe.split, dataset, by=recipe.split_by)
    elif not (recipe.split or recipe.holdout) and Path(recipe.data).is_dir() and "published_split" in dataset.table:
        table = split_of_folders(dataset, recipe.data, recipe.fractions, seed=recipe.seed, by=recipe.split_by)
    else:
        holdout = recipe.holdout or None
        table = split(dataset, recipe.fractions, seed=recipe.seed, by=recipe.split_by, holdout=holdout)
    for name in ("train", "validation"):
        check_labels(dataset.targets[(table["split"] == name).to_numpy()], dataset.classes, recipe.task, name)
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
