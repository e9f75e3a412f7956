"""What is evaluated: a model, a store, and the rows of it that count; from a run, or from weights and other data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from covidcxnet.evaluation.findings import Data
from enhancement.errors import InputError

if TYPE_CHECKING:
    from covidcxnet.classifier import Classifier
    from covidcxnet.datasets import Dataset
    from covidcxnet.preparation import Store
    from covidcxnet.training import Run

SPLITS = ("test", "validation", "train", "all")
OTHER = "other"  # data that are not the run's own
# Phantoms that no training has seen: trainings use the seeds from 0 on.
_PHANTOM_SEED, _PHANTOM_IMAGES = 20_000, 150


@dataclass(frozen=True)
class Subject:
    """A model and the images it is evaluated on.

    Parameters
    ----------
    classifier : Classifier
        The model.
    store : Store
        Prepared stacks.
    rows : np.ndarray
        Rows of the store that are evaluated, int64 [N].
    data : Data
        What the report says about them.
    run : Run or None
        Training that the weights come from, where it is known.
    """

    classifier: Classifier
    store: Store
    rows: np.ndarray
    data: Data
    run: Run | None

    @property
    def own(self) -> bool:
        """Whether the images are the run's own, not other data."""
        return self.run is not None and self.data.overlap == -1


def newest_run(folder: str | Path = "runs") -> Path:
    """The run with the most recent weights.

    Raises
    ------
    InputError
        If there is none.
    """
    # A folder of a lung U-Net's training has weights too, but no recipe.
    weights = [path for path in Path(folder).glob("*/best.weights.h5") if (path.parent / "recipe.yaml").is_file()]
    if not weights:
        raise InputError(f"{folder}: no run with weights in it; give a run folder or a weights file, or train first")
    return max(weights, key=lambda path: path.stat().st_mtime).parent


def find_run(target: str | Path) -> Run | None:
    """The run that `target` is, or whose weights it is; None where it is neither."""
    from covidcxnet.training import Run

    path = Path(target)
    folder = path if path.is_dir() else path.parent
    if path.is_dir() or (path.is_file() and (folder / "recipe.yaml").is_file() and (folder / "run.json").is_file()):
        return Run(folder)
    return None


def subject_of_run(run: Run, classifier: Classifier, split: str) -> Subject:
    """Images of the run's own split."""
    if split not in SPLITS:
        raise InputError(f"split: {split!r} given, one of {', '.join(SPLITS)} expected")
    store, table = run.store, run.store.table
    _check_input(store, classifier)
    sides = dict(zip(run.split["path"], run.split["split"], strict=True))
    parts = _parts(table, [sides.get(path, "none") for path in table["path"]])
    rows = np.arange(len(table)) if split == "all" else run.rows(split)
    if not len(rows):
        there = ", ".join(f"{name} {n}" for name, n in parts["part"].value_counts().items())
        raise InputError(f"{run.path}: no image in split {split}; there are {there}")
    data = Data(
        name=_name(run.recipe.data, store.name),
        where=dict(run.recipe.where),
        split=split,
        split_by=str(run.recipe.split_by),
        phantom=run.recipe.data == "phantom",
        parts=parts if split == "all" else parts[parts["part"] != "none"],
        rejected=store.rejected,
        lungs_sought=_lungs_sought(table.iloc[rows]),
        region=store.settings.region,
    )
    return Subject(classifier, store, rows, data, run)


def subject_of_data(
    classifier: Classifier,
    run: Run | None,
    data: str | Path,
    folder: Path,
    *,
    root: str | Path | None = None,
    where: Mapping[str, Any] | None = None,
    jobs: int | None = None,
    progress: bool = True,
) -> Subject:
    """Other images, prepared as the weights ask for into a store in `folder`."""
    from covidcxnet.preparation import prepare

    dataset = _load(data, root, where, classifier.classes)
    given_masks = "mask" in dataset.table and not classifier.metadata.get("segmenter")
    # Weights trained on given masks are evaluated on given masks; otherwise the segmenter of the training finds lungs.
    segmenter = None if given_masks and classifier.input.region != "none" else classifier.segmenter
    store = prepare(dataset, classifier.input, folder / "store.h5", segmenter=segmenter, jobs=jobs, progress=progress)
    table = store.table
    described = Data(
        name=_name(data, store.name),
        where=dict(where or {}),
        split=OTHER,
        split_by="",
        phantom=str(data) == "phantom",
        parts=_parts(table, [OTHER] * len(table)),
        rejected=store.rejected,
        lungs_sought=_lungs_sought(table),
        region=store.settings.region,
        overlap=_overlap(store, run),
    )
    return Subject(classifier, store, np.arange(len(table)), described, run)


def _load(data, root, where, classes: tuple[str, ...]) -> Dataset:
    """Like `load_dataset`, but images of a single class will do: an external set often has no other."""
    from covidcxnet.datasets import load_dataset, open_dataset

    if str(data) == "phantom":
        return load_dataset(
            "phantom", root=root, classes=classes, where=where, phantom_images=_PHANTOM_IMAGES, seed=_PHANTOM_SEED
        )
    dataset = open_dataset(data, root)
    if where:
        dataset = dataset.filter(**where)
    unknown = [label for label in dataset.classes if label not in classes]
    if unknown:
        known = [label for label in dataset.classes if label in classes]
        hint = f"; leave such images out with --where label={','.join(known)}" if known else ""
        raise InputError(f"{data}: label {unknown[0]!r} found, this model knows {', '.join(classes)}{hint}")
    return dataset


def _name(data: str | Path, name: str) -> str:
    """A table is called by its folder too: half of all of them are called metadata.csv."""
    path = Path(data)
    return f"{path.absolute().parent.name}/{path.name}" if path.suffix else name


def _check_input(store: Store, classifier: Classifier) -> None:
    if store.settings != classifier.input:
        raise InputError(
            f"{store.path}: was prepared with other input settings than the weights were trained with; "
            "evaluate the weights with --data, which prepares the images anew"
        )
    if store.classes != classifier.classes:
        raise InputError(f"{store.path}: classes {store.classes}, but the weights know {classifier.classes}")


def _parts(table: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    columns = [c for c in ("label", "patient", "source") if c in table]
    parts = table[columns].assign(part=names)
    order = {name: k for k, name in enumerate(("train", "validation", "test", OTHER, "none"))}
    return parts.sort_values("part", key=lambda part: part.map(order), kind="stable")


def _lungs_sought(table: pd.DataFrame) -> int:
    return int(table["lungs_trusted"].notna().sum()) if "lungs_trusted" in table else 0


def _overlap(store: Store, run: Run | None) -> int | None:
    """Images that were trained on, by content, or that show a patient of the training in the same data."""
    if run is None:
        return None
    try:
        trained = run.store.table.iloc[run.rows("train")]
    except InputError:
        return None
    table = store.table
    seen = table["sha256"].isin(set(trained["sha256"])).to_numpy()
    if run.store.root == store.root and "patient" in table and "patient" in trained:
        seen = seen | (table["patient"].notna() & table["patient"].isin(set(trained["patient"].dropna()))).to_numpy()
    return int(seen.sum())
