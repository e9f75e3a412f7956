"""What is evaluated: a model, a store, and the rows of it that count; from a run, or from weights and other data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from covidcxnet.evaluation.asked import leave_out, name_of, narrow, open_whole
from covidcxnet.evaluation.description import Data
from covidcxnet.evaluation.seen import TRAINING, Marks, read_seen, training_list
from enhancement.errors import InputError

if TYPE_CHECKING:
    from covidcxnet.classifier import Classifier
    from covidcxnet.datasets import Dataset
    from covidcxnet.preparation import Store
    from covidcxnet.training import Run

SPLITS = ("test", "validation", "train", "all")
OTHER = "other"  # data that are not the run's own
PATIENT_SEEN = "patient_seen"  # not in training itself, but another image of the patient is


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
    table : pd.DataFrame
        What is known of these images, a row each; see `Predictions`.
    trained_on : np.ndarray or None
        bool [N]: known from training; None where that is unknown.
    """

    classifier: Classifier
    store: Store
    rows: np.ndarray
    data: Data
    run: Run | None
    table: pd.DataFrame
    trained_on: np.ndarray | None = None

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
        name=name_of(run.recipe.data, store.name),
        where=dict(run.recipe.where),
        split=split,
        split_by=str(run.recipe.split_by),
        phantom=run.recipe.data == "phantom",
        parts=parts if split == "all" else parts[parts["part"] != "none"],
        rejected=store.rejected,
        lungs_sought=_lungs_sought(table.iloc[rows]),
        region=store.settings.region,
        trained_sources=_trained_sources(run),
    )
    evaluated = table.iloc[rows].reset_index(drop=True)
    part = pd.Series([sides.get(path, "none") for path in evaluated["path"]], dtype=object)
    remembered = part.isin({"train", "validation"} - {split}).to_numpy()
    return Subject(classifier, store, rows, data, run, evaluated, remembered)


def subject_of_data(
    classifier: Classifier,
    run: Run | None,
    data: str | Path,
    folder: Path,
    *,
    root: str | Path | None = None,
    where: Mapping[str, Any] | None = None,
    seen: Sequence[str | Path] = (),
    count: Mapping[str, str] | None = None,
    store: str | Path | None = None,
    jobs: int | None = None,
    progress: bool = True,
) -> Subject:
    """Other images, prepared as the weights ask for into `store`, or one in `folder`."""
    from covidcxnet.preparation import prepare

    counted = dict(count or {})
    lists = read_seen(seen) if seen else training_list(classifier.path)
    whole = open_whole(data, root, classifier)
    dataset = narrow(whole, data, where, classifier.classes, counted)
    marks = lists.marks(whole.table, whole.root, patients=bool(seen)) if lists is not None else None
    left_out = None
    if seen and lists is not None and marks is not None:
        dataset, left_out = leave_out(dataset, whole, lists, marks)
    # Weights trained on given masks are evaluated on given masks; otherwise the segmenter of the training finds lungs.
    given_masks = "mask" in dataset.table and not classifier.metadata.get("segmenter")
    # A model that sees whole radiographs has no use for lungs: they are found only for the cases that are shown.
    segmenter = None if given_masks or classifier.input.region == "none" else classifier.segmenter
    stacks = prepare(
        dataset,
        classifier.input,
        store or folder / "store.h5",
        segmenter=segmenter,
        jobs=jobs,
        progress=progress,
        shared=store is not None,
    )
    rows, table, rejected = stacks.select(dataset)
    if not len(rows):
        raise InputError(f"{data}: none of {len(dataset)} images could be read; {rejected['reason'].iloc[0]}")
    parts = _parts(table, [OTHER] * len(table))
    trained_on = _trained_on(stacks.root, table, run)
    sources = _trained_sources(run)
    if marks is not None:
        parts = pd.concat([_listed_parts(whole, marks, set(dataset.table["path"])), parts], ignore_index=True)
        sources = frozenset((sources or frozenset()) | (marks.sources or frozenset())) or None
        known = dict(zip(whole.table["path"], marks.seen, strict=True))
        listed = np.array([known[path] for path in table["path"]], bool)
        trained_on = listed if trained_on is None else trained_on | listed
    if counted:
        table["labelled"] = table["label"]
        table["label"] = table["label"].replace(counted)
    described = Data(
        name=name_of(data, dataset.name),
        where=dict(where or {}),
        split=OTHER,
        split_by="",
        phantom=str(data) == "phantom",
        parts=parts,
        rejected=rejected,
        lungs_sought=_lungs_sought(table),
        region=stacks.settings.region,
        overlap=None if trained_on is None else int(trained_on.sum()),
        trained_sources=sources,
        counted=counted,
        left_out=left_out,
    )
    return Subject(classifier, stacks, rows, described, run, table, trained_on)


def _listed_parts(whole: Dataset, marks: Marks, evaluated: set[str]) -> pd.DataFrame:
    """What training saw of the whole data, and other images of its patients; none of them evaluated."""
    table = whole.table
    away = ~table["path"].isin(evaluated).to_numpy()
    names = np.where(marks.image, marks.split, np.where(marks.patient, PATIENT_SEEN, ""))
    listed = away & (names != "")
    return _parts(table[listed], list(names[listed]))


def _check_input(store: Store, classifier: Classifier) -> None:
    if store.settings != classifier.input:
        raise InputError(
            f"{store.path}: was prepared with other input settings than the weights were trained with; "
            "evaluate the weights with --data, which prepares the images anew"
        )
    if store.classes != classifier.classes:
        raise InputError(f"{store.path}: classes {store.classes}, but the weights know {classifier.classes}")


def _parts(table: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    columns = [c for c in ("label", "patient", "source", "license", "licence") if c in table]
    parts = table[columns].assign(part=names)
    order = {name: k for k, name in enumerate(("train", "validation", PATIENT_SEEN, "test", OTHER, "none"))}
    return parts.sort_values("part", key=lambda part: part.map(order), kind="stable")


def _lungs_sought(table: pd.DataFrame) -> int:
    return int(table["lungs_trusted"].notna().sum()) if "lungs_trusted" in table else 0


def _trained_sources(run: Run | None) -> frozenset[str] | None:
    """None where the run, its store or the sources in it are not known."""
    if run is None:
        return None
    try:
        trained = _shown(run)
    except InputError:
        return None
    if "source" not in trained or trained["source"].isna().all():
        return None
    return frozenset(trained["source"].fillna("unknown").astype(str))


def _trained_on(root: Path, table: pd.DataFrame, run: Run | None) -> np.ndarray | None:
    """Images that training saw, by content, or that show a patient whom it saw in the same data: bool [N]."""
    if run is None:
        return None
    try:
        trained = _shown(run)
    except InputError:
        return None
    seen = table["sha256"].isin(set(trained["sha256"])).to_numpy()
    if run.store.root == root and "patient" in table and "patient" in trained:
        seen = seen | (table["patient"].notna() & table["patient"].isin(set(trained["patient"].dropna()))).to_numpy()
    return seen


def _shown(run: Run) -> pd.DataFrame:
    """Rows of the run's store that left a trace in its weights."""
    return run.store.table.iloc[np.concatenate([run.rows(side) for side in TRAINING])]
