"""Distillation: the probabilities of a teacher take the place of the labels of the training images in the loss.

Hinton, Vinyals and Dean 2015, "Distilling the knowledge in a neural network", at a temperature of 1. Class weights,
sampling and validation keep to the labels.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from covidcxnet import pretrained
from covidcxnet.backend import precision
from covidcxnet.reporting.table import count
from enhancement.errors import InputError

from .recipe import Recipe
from .sampling import Side

if TYPE_CHECKING:
    from covidcxnet.classifier import Classifier
    from covidcxnet.datasets import Dataset
    from covidcxnet.preparation import Store


def teacher_of(recipe: Recipe, engine: str | None = None) -> Classifier | None:
    """The recipe's teacher; `InputError` if it cannot be had or lacks a class. `recipe.classes` are resolved."""
    if not recipe.teacher:
        return None
    with precision("float32"):  # whatever the student computes in
        teacher = pretrained.load_model(recipe.teacher, engine=engine)
    missing = [label for label in recipe.classes if label not in teacher.classes]
    if missing or teacher.task != "exclusive":
        what = f"lacks {', '.join(missing)}" if missing else "has independent findings"
        raise InputError(f"teacher: {recipe.teacher} knows {', '.join(teacher.classes)} and {what}; name another")
    return teacher


def soft_labels(teacher: Classifier, recipe: Recipe, dataset: Dataset, store: Store, rows: np.ndarray) -> pd.DataFrame:
    """What a teacher says of rows of a store: path, and ``p_`` and the name of each class of the recipe.

    It sees their stacks where its input is the recipe's, else their files as `Classifier.predict` would. Probabilities
    are among the recipe's classes alone; NaN where the teacher cannot read an image or gives them none. How many those
    are is printed; `InputError` if there are no others.
    """
    paths = store.table["path"].iloc[rows].tolist()
    with precision("float32"):  # here too, as a teacher may build its network only now
        # `segmenter` refuses one that is not that of the teacher's training.
        if teacher.input == recipe.input and (recipe.input.region == "none" or teacher.segmenter):
            probabilities = teacher.predict_rows(store, rows, progress=True, name="by the teacher")
        else:
            file = dict(zip(dataset.table["path"], dataset.paths, strict=True))
            jobs = recipe.jobs or os.cpu_count() or 1
            probabilities = teacher.predict_proba([file[path] for path in paths], jobs=jobs, progress=True)
    chosen = probabilities[:, [teacher.classes.index(label) for label in recipe.classes]].astype(np.float64)
    sums = chosen.sum(axis=1, keepdims=True)
    shares = np.divide(chosen, sums, out=np.full_like(chosen, np.nan), where=sums > 0)
    table = pd.DataFrame(shares, columns=[f"p_{label}" for label in recipe.classes])
    images, answered = count(len(table), "training image"), int(table.notna().all(axis=1).sum())
    if not answered:
        raise InputError(f"teacher: {recipe.teacher} has no answer for any of {images}; name another")
    left = len(table) - answered
    note = f"; the other {left} could not be read by it or have none of its probability, and keep their labels"
    print(f"teacher: an answer for {answered} of {images}{note if left else ''}", file=sys.stderr, flush=True)
    table.insert(0, "path", paths)
    return table


def with_soft_labels(side: Side, paths: np.ndarray, table: pd.DataFrame) -> Side:
    """A side whose rows have these paths, with a table of `soft_labels` as targets; its own where that has none."""
    soft = table.set_index("path").reindex(paths).to_numpy("float32")
    # As `targets_for` writes labels: two classes are one column, that of the second.
    soft = soft[:, 1:] if side.targets.shape[1] == 1 else soft
    return dataclasses.replace(side, targets=np.where(np.isnan(soft), side.targets, soft))
