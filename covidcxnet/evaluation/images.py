"""Which images are evaluated: a model, a store, and the rows of it that count; of a run, or of other data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from covidcxnet.classifier import Classifier
from covidcxnet.datasets import Dataset, load
from covidcxnet.datasets.load import address_of
from covidcxnet.datasets.splits import UNUSED
from covidcxnet.evaluation.predictions import truth_of
from covidcxnet.evaluation.provenance import Marks, TrainingLists, list_beside, read_training_lists, training_images
from covidcxnet.evaluation.report import Data, LeftOut
from covidcxnet.preparation import Store, prepare
from covidcxnet.training import Run
from enhancement.errors import InputError
from weights.lookup import is_name
from weights.manifest import FOLDER

SPLITS = ("test", "validation", "train", "all")
OTHER = "other"  # data that are not the run's own
PATIENT_SEEN = "patient_seen"  # not in training itself, but another image of the patient is
_PARTS = ("train", "validation", PATIENT_SEEN, "test", OTHER, "none")

# Phantoms that no training has seen: trainings use the seeds from 0 on.
_PHANTOM_SEED, _PHANTOM_IMAGES = 20_000, 150


@dataclass(frozen=True)
class EvaluatedImages:
    """A model and the images it is evaluated on."""

    classifier: Classifier
    store: Store
    rows: np.ndarray  # of the store, int64 [N]
    data: Data  # what the report says about them
    run: Run | None  # that the weights come from, where it is known
    table: pd.DataFrame  # what is known of these images, a row each; see `Predictions`
    trained_on: np.ndarray | None = None  # bool [N]; None where that is unknown

    @property
    def own_run(self) -> Run | None:
        """The run whose own images these are; None for other data."""
        return self.run if self.data.overlap == -1 else None


def newest_run(folder: str | Path = "runs") -> Path:
    """The run with the most recent weights."""
    # A folder of a lung U-Net's training has weights too, but no recipe.
    weights = [path for path in Path(folder).glob("*/best.weights.h5") if (path.parent / "recipe.yaml").is_file()]
    if not weights:
        raise InputError(f"{folder}: no run with weights in it; give a run folder or a weights file, or train first")
    return max(weights, key=lambda path: path.stat().st_mtime).parent


def find_run(target: str | Path) -> Run | None:
    """The run that `target` is, or whose weights it is; None where it is neither."""
    path = Path(target)
    folder = path if path.is_dir() else path.parent
    if path.is_dir() or (path.is_file() and (folder / "recipe.yaml").is_file() and (folder / "run.json").is_file()):
        return Run(folder)
    return None


def images_of_run(run: Run, classifier: Classifier, split: str) -> EvaluatedImages:
    """Images of the run's own split."""
    if split not in SPLITS:
        raise InputError(f"split: {split!r} given, one of {', '.join(SPLITS)} expected")
    store, table = run.store, run.store.table
    if store.settings != classifier.input:
        raise InputError(
            f"{store.path}: was prepared with other input settings than the weights were trained with; "
            "evaluate the weights with --data, which prepares the images anew"
        )
    if store.classes != classifier.classes:
        raise InputError(f"{store.path}: classes {store.classes}, but the weights know {classifier.classes}")
    sides = dict(zip(run.split["path"], run.split["split"], strict=True))
    part = table["path"].map(lambda path: sides.get(path, "none")).replace(UNUSED, "none")
    parts = _parts(table, part)
    rows = np.arange(len(table)) if split == "all" else run.rows(split)
    if not len(rows):
        there = ", ".join(f"{name} {n}" for name, n in parts["part"].value_counts().items())
        raise InputError(f"{run.path}: no image in split {split}; there are {there}")
    evaluated = table.iloc[rows].reset_index(drop=True)
    data = Data(
        name=name_of(run.recipe.data, store.name),
        where=dict(run.recipe.where),
        split=split,
        split_by=str(run.recipe.split_by),
        phantom=run.recipe.data == "phantom",
        parts=parts if split == "all" else parts[parts["part"] != "none"],
        rejected=store.rejected,
        lungs_sought=_lungs_sought(evaluated),
        region=store.settings.region,
        **_seen_before(run, store.root, evaluated),
        trained_sources=_trained_sources(training_images(run)),
        findings=_finding_counts(table, part, classifier),
    )
    trained_on = part.iloc[rows].isin({"train", "validation"} - {split}).to_numpy()
    return EvaluatedImages(classifier, store, rows, data, run, evaluated, trained_on)


def images_of_data(
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
) -> EvaluatedImages:
    """Other images, prepared as the weights ask for into `store`, or one in `folder`."""
    counted = dict(count or {})
    lists = read_training_lists(seen) if seen else list_beside(classifier.path)
    whole = _open(data, root, classifier)
    dataset = _narrow(whole, data, where, classifier, counted)
    marks = lists.marks(whole.table, whole.root, patients=bool(seen)) if lists is not None else None
    left_out = None
    if seen and lists is not None and marks is not None:
        dataset, left_out = _leave_out(dataset, whole, lists, marks)
    # Weights trained on given masks are evaluated on given masks; otherwise the segmenter of the training finds lungs.
    given_masks = "mask" in dataset.table and not classifier.metadata.get("segmenter")
    # A model that sees whole radiographs has no use for lungs: they are found only for the cases that are shown.
    segmenter = None if given_masks or classifier.input.region == "none" else classifier.segmenter
    if segmenter is not None:
        segmenter = segmenter.in_f32()  # whatever precision the classifier has
    path, shared = store or folder / "store.h5", store is not None
    options: dict[str, Any] = {"segmenter": segmenter, "jobs": jobs, "progress": progress, "shared": shared}
    stacks = prepare(dataset, classifier.input, path, **options)
    rows, table, rejected = stacks.select(dataset)
    if not len(rows):
        raise InputError(f"{data}: none of {len(dataset)} images could be read; {rejected['reason'].iloc[0]}")
    part = pd.Series(OTHER, table.index)
    parts, trained = _parts(table, part), training_images(run)
    trained_on = None if trained is None or run is None else _trained_on(stacks.root, table, trained, run)
    sources = _trained_sources(trained)
    if marks is not None:
        parts = pd.concat([_listed_parts(whole, marks, set(dataset.table["path"])), parts], ignore_index=True)
        sources = frozenset((sources or frozenset()) | (marks.sources or frozenset())) or None
        listed = _by_path(whole, marks.trained, table["path"])
        trained_on = listed if trained_on is None else trained_on | listed
    findings = _finding_counts(table, part, classifier)
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
        **_seen_before(run, stacks.root, table),
        trained_sources=sources,
        counted=counted,
        left_out=left_out,
        findings=findings,
    )
    return EvaluatedImages(classifier, stacks, rows, described, run, table, trained_on)


def _seen_before(run: Run | None, root: Path, table: pd.DataFrame) -> dict[str, Any]:
    """How many images a run's initial weights and its teacher saw in training, by names of `Data`."""
    earlier = {} if run is None else {"seen_by_initial": run.recipe.init, "seen_by_teacher": run.recipe.teacher}
    return {name: int(_seen_by(weights, root, table).sum()) for name, weights in earlier.items()}


def _seen_by(weights: str, root: Path, table: pd.DataFrame, known: frozenset[Path] = frozenset()) -> np.ndarray:
    """Images that some weights saw in training, or others of their patients, where a list or a run tells: bool [N].

    Of a run these are also the images that its own initial weights and teacher saw; `known` are runs asked before.
    """
    seen = np.zeros(len(table), bool)
    if weights in ("", "random", "imagenet"):
        return seen
    # By name, and not by what a download would find: our own lists lie beside our own weights.
    path = FOLDER / f"{weights}.weights.h5" if is_name(weights) else Path(weights)
    if (lists := list_beside(path)) is not None:
        seen |= lists.marks(table, root, patients=False).trained
    # A run that is gone or damaged tells nothing.
    with suppress(InputError):
        run = find_run(path)
        if run is not None and run.path.resolve() not in known:
            if (trained := training_images(run)) is not None:
                seen |= _trained_on(root, table, trained, run)
            for earlier in (run.recipe.init, run.recipe.teacher):
                seen |= _seen_by(earlier, root, table, known | {run.path.resolve()})
    return seen


def name_of(data: str | Path, name: str) -> str:
    """A table is called by its folder too: half of all of them are called metadata.csv."""
    if address_of(data) is not None:
        return name
    path = Path(data)
    return f"{path.absolute().parent.name}/{path.name}" if path.suffix else name


def _open(data, root, classifier: Classifier) -> Dataset:
    """All images of the data, with what they say of each finding of a model of independent findings.

    Those of a single class will do: an external set often has no other.
    """
    options: dict[str, Any] = {}
    if classifier.task == "independent":
        options = {"classes": classifier.classes, "task": "independent"}
    elif str(data) == "phantom":
        options = {"classes": classifier.classes, "phantom_images": _PHANTOM_IMAGES, "seed": _PHANTOM_SEED}
    return load(data, root=root, for_training=False, **options)


def _narrow(whole: Dataset, data, where, classifier: Classifier, counted: Mapping[str, str]) -> Dataset:
    """The images asked for; every exclusive label is a class of the model or counted as one."""
    classes = classifier.classes
    if classifier.task == "independent":
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


def _leave_out(dataset: Dataset, whole: Dataset, lists: TrainingLists, marks: Marks) -> tuple[Dataset, LeftOut]:
    """The images that training saw neither themselves nor of their patient, and what was left out."""
    gone = _by_path(whole, marks.trained, dataset.table["path"])
    if gone.all():
        raise InputError(
            f"seen: all {len(dataset)} images, or their patients, are listed as train or validation in "
            f"{', '.join(lists.names)}; nothing is left to evaluate"
        )
    itself = int(_by_path(whole, marks.image, dataset.table["path"]).sum())
    patients = int(dataset.table.loc[gone, "patient"].nunique()) if "patient" in dataset.table else 0
    left_out = LeftOut(lists.names, itself, int(gone.sum()) - itself, patients, int((marks.split != "").sum()))
    return (replace(dataset, table=dataset.table[~gone]) if gone.any() else dataset), left_out


def _by_path(whole: Dataset, values: np.ndarray, paths: pd.Series) -> np.ndarray:
    """Of `values` bool of the whole data, those of some paths."""
    known = dict(zip(whole.table["path"], values, strict=True))
    return np.array([known[path] for path in paths], bool)


def _listed_parts(whole: Dataset, marks: Marks, evaluated: set[str]) -> pd.DataFrame:
    """What training saw of the whole data, and other images of its patients; none of them evaluated."""
    away = ~whole.table["path"].isin(evaluated).to_numpy()
    names = np.where(marks.image, marks.split, np.where(marks.patient, PATIENT_SEEN, ""))
    listed = away & (names != "")
    return _parts(whole.table[listed], names[listed])


def _parts(table: pd.DataFrame, part: pd.Series | np.ndarray) -> pd.DataFrame:
    columns = [c for c in ("label", "patient", "source", "license", "licence") if c in table]
    parts = table[columns].assign(part=np.asarray(part, object))
    return parts.sort_values("part", key=lambda names: names.map(_PARTS.index), kind="stable")


def _finding_counts(table: pd.DataFrame, part: pd.Series, classifier: Classifier) -> pd.DataFrame | None:
    """Images and patients by part and independent finding; None of exclusive classes."""
    if classifier.task == "exclusive":
        return None
    present = (truth_of(table, classifier.classes, "independent") == 1).T
    rows = []
    for name in (name for name in _PARTS if (part == name).any()):
        for finding, images in (*zip(classifier.classes, present, strict=True), ("all", np.ones(len(table), bool))):
            members = images & (part == name).to_numpy()
            patients = table.loc[members, "patient"] if "patient" in table else None
            known = None if patients is None or patients.isna().all() else int(patients.nunique())
            rows.append({"part": name, "finding": finding, "images": int(members.sum()), "patients": known})
    return pd.DataFrame(rows)


def _lungs_sought(table: pd.DataFrame) -> int:
    return int(table["lungs_trusted"].notna().sum()) if "lungs_trusted" in table else 0


def _trained_sources(trained: pd.DataFrame | None) -> frozenset[str] | None:
    """Sources of the training images; None where they are not known."""
    if trained is None or "source" not in trained or trained["source"].isna().all():
        return None
    return frozenset(trained["source"].fillna("unknown").astype(str))


def _trained_on(root: Path, table: pd.DataFrame, trained: pd.DataFrame, run: Run) -> np.ndarray:
    """Images that training saw, by content, or that show a patient whom it saw in the same data: bool [N]."""
    known = table["sha256"].isin(set(trained["sha256"])).to_numpy()
    if run.store.root == root and "patient" in table and "patient" in trained:
        patients = set(trained["patient"].dropna())
        known = known | (table["patient"].notna() & table["patient"].isin(patients)).to_numpy()
    return known
