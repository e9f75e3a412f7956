"""Findings: all that one evaluation found, as plain data; the page and `metrics.json` are two views of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from covidcxnet.evaluation.bootstrap import LEVEL
from covidcxnet.evaluation.calibration import Reliability
from covidcxnet.evaluation.cases import Case
from covidcxnet.evaluation.metrics import Metrics
from covidcxnet.evaluation.places import Places, places_to_dict
from covidcxnet.evaluation.predictions import Predictions
from covidcxnet.evaluation.sources import Sources

FORMAT = 1


@dataclass(frozen=True)
class Model:
    """Which model was evaluated.

    Parameters
    ----------
    name : str
        Architecture.
    weights, sha256 : str
        File the weights came from, and its hash.
    parameters : int
        Number of weights; 0 where unknown.
    size : int
        Bytes of the file; 0 where unknown.
    training : dict
        What the weights file says about its training.
    """

    name: str
    weights: str
    sha256: str = ""
    parameters: int = 0
    size: int = 0
    training: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LeftOut:
    """Images of the data that were not evaluated because lists say that training saw them, or their patient.

    Parameters
    ----------
    lists : tuple of str
        The files that say so.
    images : int
        Left out because the image itself stands there as train or validation.
    of_patients : int
        Left out because another image of the patient does.
    patients : int
        Patients of both, where known.
    found : int
        Images of the whole data that the lists name at all, whatever their part.
    """

    lists: tuple[str, ...]
    images: int
    of_patients: int
    patients: int
    found: int


@dataclass(frozen=True)
class Data:
    """Which images were evaluated, and which were not.

    Parameters
    ----------
    name : str
        Data set.
    split : str
        Evaluated part: "test", "validation", "train" or "all" of a run, "other" for data that are not its own.
    split_by : str
        "patient", "image", "" where the images were not split here.
    phantom : bool
        Whether the images are computed and show no patient.
    parts : pd.DataFrame
        All images that the store holds: columns `part`, `label`; `patient`, `source` where known.
    rejected : pd.DataFrame
        Files left out: columns `path`, `reason`.
    lungs_sought : int
        Evaluated images in which lungs were looked for.
    region : str
        Region of interest of the input settings.
    overlap : int or None
        Evaluated images that the model was trained on; None where that is unknown, -1 where a split rules it out.
    where : dict
        Rows of the data that were used, column to value or values; empty for all.
    trained_sources : frozenset of str or None
        Sources of the images that were trained on; None where they are not known.
    counted : dict
        Labels that the model does not know, to the class that their images are counted as.
    left_out : LeftOut or None
        What was left out because training saw it; None where no list was given.
    """

    name: str
    split: str
    split_by: str
    phantom: bool
    parts: pd.DataFrame
    rejected: pd.DataFrame
    lungs_sought: int = 0
    region: str = "none"
    overlap: int | None = -1
    where: Mapping[str, Any] = field(default_factory=dict)
    trained_sources: frozenset[str] | None = None
    counted: Mapping[str, str] = field(default_factory=dict)
    left_out: LeftOut | None = None

    @property
    def unknown_patients(self) -> int:
        """Images of all parts whose patient is not known."""
        return int(self.parts["patient"].isna().sum()) if "patient" in self.parts else len(self.parts)


@dataclass(frozen=True)
class Findings:
    """One evaluation.

    Parameters
    ----------
    model, data : Model, Data
        What was evaluated on what.
    predictions, metrics, sources : Predictions, Metrics, Sources or None
        What was predicted and measured.
    with_counted : Predictions or None
        `predictions` and images that only count within their source: those of a label that is counted as a class which
        has images of its own. None where there are none.
    resamples, seed, unknown_patients : int
        The bootstrap's; images without a known patient count as patients of their own.
    threshold_from : str
        Where the threshold came from, in words.
    openings : tuple of dict
        Each time the test set was evaluated in this run, oldest first; empty for weights on other data.
    cases : tuple of Case
        Images shown with their explanations.
    log : pd.DataFrame or None
        Training log.
    best_epoch : int or None
        Epoch of the weights.
    input_settings, recipe, environment : dict
        As recorded.
    commands : tuple of str
        Command lines that make these figures again.
    created : str
        Local date and time.
    places : Places or None
        Internal, held-out and within-source figures side by side.
    """

    model: Model
    data: Data
    predictions: Predictions
    metrics: Metrics
    sources: Sources | None
    resamples: int
    seed: int
    unknown_patients: int
    threshold_from: str = "default"
    openings: tuple[Mapping[str, Any], ...] = ()
    cases: tuple[Case, ...] = ()
    log: pd.DataFrame | None = None
    best_epoch: int | None = None
    input_settings: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    commands: tuple[str, ...] = ()
    created: str = ""
    places: Places | None = None
    with_counted: Predictions | None = None

    @property
    def title(self) -> str:
        """What the page is called."""
        return f"{self.model.name} on {self.data.name}"

    @property
    def everything(self) -> Predictions:
        """Of all images, also those that only count within their source."""
        return self.predictions if self.with_counted is None else self.with_counted

    @property
    def counted_images(self) -> dict[str, int]:
        """Evaluated images of each label that the model does not know and that is counted as one of its classes."""
        labels = self.everything.labelled
        return {label: int((labels == label).sum()) for label in self.data.counted}

    @property
    def failed_lungs(self) -> pd.DataFrame:
        """Rows of the evaluated table whose lung mask was not trusted."""
        table = self.everything.table
        if "lungs_trusted" not in table or not self.data.lungs_sought:
            return table.iloc[:0]
        return table[~table["lungs_trusted"].fillna(True).astype(bool)]

    def to_json(self) -> dict[str, Any]:
        """Every number of the page as plain values; NaN is None."""
        from covidcxnet.evaluation.cautions import cautions

        metrics, data = self.metrics, self.data
        content = {
            "format": FORMAT,
            "notice": "Research only: not a medical device",
            "created": self.created,
            "model": {**vars(self.model), "training": dict(self.model.training)},
            "data": {
                "name": data.name,
                "phantom": data.phantom,
                "where": dict(data.where),
                "split": data.split,
                "split_by": data.split_by,
                "images_without_patient_in_all_parts": data.unknown_patients,
                "images": metrics.images,
                "patients": metrics.patients - self.unknown_patients,
                "images_without_patient": self.unknown_patients,
                "parts": _part_counts(data.parts),
                "images_also_trained_on": None if data.overlap is None else max(0, data.overlap),
                "left_out": None if data.left_out is None else dict(vars(data.left_out)),
                "counted_as": {
                    label: {"class": name, "images": self.counted_images.get(label, 0)}
                    for label, name in data.counted.items()
                },
                "rejected": data.rejected[["path", "reason"]].to_dict("records"),
                "lungs": {"sought": data.lungs_sought, "not_trusted": len(self.failed_lungs)},
            },
            "bootstrap": {
                "resamples": self.resamples,
                "seed": self.seed,
                "level": LEVEL,
                "unit": "image" if metrics.patients == self.unknown_patients else "patient",
            },
            "threshold": {
                "value": self.predictions.threshold if len(metrics.classes) == 2 else None,
                "from": self.threshold_from,
            },
            "classes": list(metrics.classes),
            "overall": {name: e.to_dict() for name, e in metrics.overall.items()},
            "by_class": {c: {name: e.to_dict() for name, e in row.items()} for c, row in metrics.by_class.items()},
            "confusion_matrix": metrics.confusion.tolist(),
            "called_normal": [
                {
                    "class": m.name,
                    "missed": m.missed,
                    "images": m.images,
                    "patients": m.patients,
                    "rate": m.rate.to_dict(),
                }
                for m in metrics.missed
            ],
            "reliability": {c: _bins(r) for c, r in metrics.reliability.items()},
            "sources": _sources(self.sources),
            "places": places_to_dict(self.places),
            "warnings": [{"key": w.key, "text": w.text} for w in cautions(self)],
            "test_openings": [dict(o) for o in self.openings],
            "input": dict(self.input_settings),
            "recipe": dict(self.recipe),
            "environment": dict(self.environment),
            "commands": list(self.commands),
        }
        return plain(content)


def plain(value: Any) -> Any:
    """`value` as JSON knows it: NumPy and pandas scalars unpacked, NaN and infinities None."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, int, bool)):
        return value
    return None if value is pd.NA else str(value)


def _bins(reliability: Reliability) -> dict[str, Any]:
    return {name: values.tolist() for name, values in vars(reliability).items() if name != "error"}


def _part_counts(parts: pd.DataFrame) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for part, rows in parts.groupby("part", sort=False):
        counts: dict[str, Any] = {"images": len(rows), "by_class": rows["label"].value_counts().to_dict()}
        for column, key in (("patient", "patients"), ("source", "by_source")):
            if column in rows and rows[column].notna().any():
                values = rows[column].value_counts().to_dict()
                counts[key] = len(values) if column == "patient" else values
        found[str(part)] = counts
    return found


def _sources(sources: Sources | None) -> dict[str, Any] | None:
    if sources is None:
        return None
    return {
        "rows": [
            {**vars(row), "accuracy": row.accuracy.to_dict(), "auroc": row.auroc.to_dict()} for row in sources.rows
        ],
        "auroc_within_sources": sources.within.to_dict(),
        "auroc_of_source_alone": sources.place_alone,
        "classes_alone_in_their_sources": list(sources.alone),
        "classes_without_shared_source": [list(pair) for pair in sources.unshared],
    }
