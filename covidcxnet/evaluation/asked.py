"""The images that `--data` asks for: read as the model knows them, narrowed, and without what training saw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from covidcxnet.datasets import Dataset, load
from covidcxnet.datasets.named import address_of
from covidcxnet.evaluation.description import LeftOut
from enhancement.errors import InputError

if TYPE_CHECKING:
    from covidcxnet.classifier import Classifier
    from covidcxnet.evaluation.seen import Marks, Seen

# Phantoms that no training has seen: trainings use the seeds from 0 on.
_PHANTOM_SEED, _PHANTOM_IMAGES = 20_000, 150


def open_whole(data: str | Path, root: str | Path | None, classifier: Classifier) -> Dataset:
    """All images of the data; those of a single class will do: an external set often has no other."""
    if classifier.multilabel:
        if str(data) == "phantom":
            raise InputError(f"{classifier.name}: knows findings; a phantom has one label. Give a CSV with findings")
        return load(data, root=root, classes=classifier.classes, task="independent", for_training=False)
    if str(data) == "phantom":
        phantoms = {"phantom_images": _PHANTOM_IMAGES, "seed": _PHANTOM_SEED}
        return load("phantom", root=root, classes=classifier.classes, **phantoms)
    return load(data, root=root, for_training=False)


def narrow(whole: Dataset, data, where, classes: tuple[str, ...], counted: Mapping[str, str]) -> Dataset:
    """The images asked for; every label is a class of the model or counted as one."""
    if whole.task == "independent":
        if counted:
            raise InputError("count: belongs to labels that exclude each other; this model knows findings")
        return whole.filter(**where) if where else whole
    for label, name in counted.items():
        if label in classes:
            raise InputError(f"count: {label!r} is a class of this model ({', '.join(classes)}); it counts as itself")
        if name not in classes:
            raise InputError(f"count: {label}={name} given, but this model knows {', '.join(classes)}")
    dataset = whole.filter(**where) if where else whole
    there = set(dataset.table["label"])
    for label in counted:
        if label not in there:
            raise InputError(f"count: no image of {data} is labelled {label!r}; labels are {', '.join(sorted(there))}")
    unknown = [label for label in dataset.classes if label in there and label not in (*classes, *counted)]
    if unknown:
        known = [label for label in dataset.classes if label in there and label in classes]
        hint = f"; leave such images out with --where label={','.join(known)}" if known else ""
        hint += f", or count them as a class with --count {unknown[0]}={classes[-1]}" if known else ""
        raise InputError(f"{data}: label {unknown[0]!r} found, this model knows {', '.join(classes)}{hint}")
    return dataset


def leave_out(dataset: Dataset, whole: Dataset, lists: Seen, marks: Marks) -> tuple[Dataset, LeftOut]:
    """The images that training saw neither themselves nor of their patient, and what was left out."""
    seen = dict(zip(whole.table["path"], marks.seen, strict=True))
    image = dict(zip(whole.table["path"], marks.image, strict=True))
    paths = dataset.table["path"]
    gone = np.array([seen[path] for path in paths], bool)
    if gone.all():
        raise InputError(
            f"seen: all {len(dataset)} images asked for, or their patients, stand as train or validation in "
            f"{', '.join(lists.names)}; nothing is left to evaluate"
        )
    itself = int(sum(image[path] for path in paths))
    patients = dataset.table.loc[gone, "patient"].nunique() if "patient" in dataset.table else 0
    found = int((marks.split != "").sum())
    left_out = LeftOut(lists.names, itself, int(gone.sum()) - itself, int(patients), found)
    if not gone.any():
        return dataset, left_out
    return replace(dataset, table=dataset.table[~gone]), left_out


def name_of(data: str | Path, name: str) -> str:
    """A table is called by its folder too: half of all of them are called metadata.csv."""
    if address_of(data) is not None:
        return name
    path = Path(data)
    return f"{path.absolute().parent.name}/{path.name}" if path.suffix else name


def word_for(data: str | Path) -> str:
    """A word for the data that can stand in a folder's name."""
    found = address_of(data)
    return Path(data).absolute().stem if found is None else found[0]
