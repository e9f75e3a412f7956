"""What figures are drawn of: models with short names, and radiographs with what is known about them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from covidcxnet.classifier import Classifier
from covidcxnet.datasets.dataset import Dataset
from covidcxnet.evaluation.images import find_run
from covidcxnet.preparation.pipeline import prepare_files
from covidcxnet.pretrained import load_model
from enhancement.errors import InputError

_LONGEST = 28  # characters of a caption's line


@dataclass(frozen=True)
class NamedModel:
    """A classifier and what figures call it: the run's folder, or the weights' own name; no two are alike."""

    name: str
    classifier: Classifier

    @property
    def file_name(self) -> str:
        """The name as a part of a file name."""
        return re.sub(r"[^A-Za-z0-9._-]+", "-", self.name).strip("-.") or "model"


@dataclass(frozen=True)
class Radiograph:
    """A file, its class and source where they are known, and its caption, which never names a patient by itself."""

    path: Path
    label: str | None = None
    source: str | None = None
    caption: str = ""


def load_models(targets: Sequence[str]) -> list[NamedModel]:
    """Classifiers from run folders, weights files or released names; `InputError` if one of them is none of these."""
    models: list[NamedModel] = []
    for target in targets:
        path = Path(target)
        name = re.sub(r"(\.weights)?\.(h5|hdf5)$", "", path.name)
        if path.is_dir():
            name = path.absolute().name
        elif path.name in ("best.weights.h5", "last.weights.h5"):
            name = path.absolute().parent.name + ("" if path.name.startswith("best") else "-last")
        taken = {model.name.lower() for model in models}
        numbered = (name if k == 1 else f"{name}-{k}" for k in itertools.count(1))
        models.append(NamedModel(next(n for n in numbered if n.lower() not in taken), load_model(target)))
    return models


def from_files(paths: Iterable[Path]) -> list[Radiograph]:
    """Radiographs about which nothing is known but their files, whose names are their captions."""
    return [Radiograph(path, caption=_short(path.name)) for path in paths]


def from_dataset(dataset: Dataset) -> list[Radiograph]:
    """Radiographs of a data set, those that it rejects left out; captions are class and source, not the file's name."""
    table, radiographs = dataset.table, []
    sources = table["source"].fillna("").astype(str) if "source" in table else [""] * len(table)
    for path, label, source, reason in zip(dataset.paths, table["label"], sources, dataset.rejected, strict=True):
        if reason is None:
            known = source if source.strip() else None
            caption = "\n".join(_short(text) for text in (label, known) if text)
            radiographs.append(Radiograph(path, label, known, caption))
    if not radiographs:
        raise InputError(f"{dataset.name}: every image is rejected; there is nothing to draw")
    return radiographs


def from_run(targets: Sequence[str], split: str) -> tuple[list[Radiograph], Path]:
    """One part of the split of the first run among `targets`, and that run's folder; `InputError` if there is none."""
    run = next((run for run in map(find_run, targets) if run is not None), None)
    if run is None:
        raise InputError("--images or --data: one of them is needed, as none of the models is a run with data")
    members = set(run.split.loc[run.split["split"] == split, "path"])
    rows = run.dataset.table["path"].isin(members)
    if not rows.any():
        raise InputError(f"--split: {run.path} has no image in {split}")
    return from_dataset(replace(run.dataset, table=run.dataset.table[rows])), run.path


def trained_on(target: str, radiographs: Sequence[Radiograph]) -> int:
    """How many of the radiographs a model was trained on, as far as it is known: 0 for weights without their run."""
    run = find_run(target)
    if run is None:
        return 0
    trained = {(run.dataset.root / path).resolve() for path in run.split.loc[run.split["split"] == "train", "path"]}
    return sum(radiograph.path.resolve() in trained for radiograph in radiographs)


def _short(text: str) -> str:
    half = _LONGEST // 2 - 1
    return text if len(text) <= _LONGEST else f"{text[:half]}...{text[-half:]}"


def choose(radiographs: Sequence[Radiograph], most: int, seed: int = 0) -> list[Radiograph]:
    """At most so many, at random, in turn from each class and within it from each source; in their own order."""
    if len(radiographs) <= most:
        return list(radiographs)
    # whoever names files wants the first of them first
    if all(radiograph.label is None for radiograph in radiographs):
        return list(radiographs[:most])
    table = pd.DataFrame([(r.label or "", r.source or "") for r in radiographs], columns=["label", "source"])
    table = table.iloc[np.random.default_rng(seed).permutation(len(table))]
    for columns in (["label", "source"], ["label"]):
        table["turn"] = table.groupby(columns, sort=False).cumcount()
        table = table.sort_values("turn", kind="stable")
    return [radiographs[int(row)] for row in sorted(table.index[:most])]


def stacks_of(
    model: NamedModel, radiographs: Sequence[Radiograph], batch_size: int = 16, jobs: int = 1, progress: bool = False
) -> Iterator[tuple[list[int], np.ndarray]]:
    """Rows and stacks ``uint8 [n, S, S, C]`` of the radiographs that can be read, batch by batch."""
    settings, paths = model.classifier.input, [radiograph.path for radiograph in radiographs]
    # lungs are looked for only where the model's input needs them
    segmenter = None if settings.region == "none" else model.classifier.segmenter
    options: dict[str, Any] = {"segmenter": segmenter, "jobs": jobs, "batch": batch_size, "progress": progress}
    read = ((o.index, o.prepared.stack) for o in prepare_files(paths, settings, **options) if o.prepared is not None)
    while batch := list(itertools.islice(read, batch_size)):
        rows, stacks = zip(*batch, strict=True)
        yield list(rows), np.stack(stacks)
