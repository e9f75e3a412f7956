"""Distillation: the probabilities of a teacher take the place of the labels of the training images in the loss.

Hinton, Vinyals and Dean 2015, "Distilling the knowledge in a neural network", at a temperature of 1. Class weights,
sampling and validation keep to the labels.
"""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from covidcxnet import pretrained
from enhancement.errors import InputError

from .recipe import Recipe
from .sampling import Side

if TYPE_CHECKING:
    from covidcxnet.classifier import Classifier
    from covidcxnet.datasets import Dataset


def teacher_of(recipe: Recipe, engine: str | None = None) -> Classifier | None:
    """The recipe's teacher; `InputError` if it cannot be had or lacks a class. `recipe.classes` are resolved."""
    if not recipe.teacher:
        return None
    teacher = pretrained.load_model(recipe.teacher, engine=engine)
    missing = [label for label in recipe.classes if label not in teacher.classes]
    if missing or teacher.task != "exclusive":
        what = f"lacks {', '.join(missing)}" if missing else "has independent findings"
        raise InputError(f"teacher: {recipe.teacher} knows {', '.join(teacher.classes)} and {what}; name another")
    return teacher


def soft_labels(teacher: Classifier, recipe: Recipe, dataset: Dataset, paths: list[str]) -> pd.DataFrame:
    """What a teacher says of images, as it would of files: path, and a column for each class of the recipe.

    Probabilities are among the recipe's classes alone; NaN where the teacher cannot read an image or gives them none.
    """
    file = dict(zip(dataset.table["path"], dataset.paths, strict=True))
    jobs = recipe.jobs or os.cpu_count() or 1
    all_classes = teacher.predict_proba([file[path] for path in paths], jobs=jobs, progress=True)
    chosen = all_classes[:, [teacher.classes.index(label) for label in recipe.classes]]
    sums = chosen.sum(axis=1, keepdims=True)
    shares = np.divide(chosen, sums, out=np.full_like(chosen, np.nan), where=sums > 0)
    return pd.DataFrame(shares, columns=list(recipe.classes)).assign(path=paths)[["path", *recipe.classes]]


def with_soft_labels(side: Side, paths: np.ndarray, table: pd.DataFrame) -> Side:
    """A side whose rows have these paths, with a table of `soft_labels` as targets; its own where that has none."""
    soft = table.set_index("path").reindex(paths).to_numpy("float32")
    # As `targets_for` writes labels: two classes are one column, that of the second.
    soft = soft[:, 1:] if side.targets.shape[1] == 1 else soft
    return dataclasses.replace(side, targets=np.where(np.isnan(soft), side.targets, soft))
