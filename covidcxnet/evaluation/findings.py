"""Findings: all that one evaluation found, as plain data; the page and `metrics.json` are two views of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from covidcxnet.evaluation.bootstrap import LEVEL
from covidcxnet.evaluation.calibration import Reliability
from covidcxnet.evaluation.cases import Case
from covidcxnet.evaluation.cautions import Caution, cautions
from covidcxnet.evaluation.description import Data, Model
from covidcxnet.evaluation.metrics import Metrics
from covidcxnet.evaluation.page import NOTICE
from covidcxnet.evaluation.place import Places, places_to_dict
from covidcxnet.evaluation.predictions import Predictions
from covidcxnet.evaluation.sources import Sources

FORMAT = 1


@dataclass(frozen=True)
class Evaluation:
    """What every evaluation has; `Findings` and `MultilabelFindings` add the figures of their kind of labels.

    Parameters
    ----------
    model, data : Model, Data
        What was evaluated on what.
    predictions, metrics
        What was predicted and measured.
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
    """

    model: Model
    data: Data
    predictions: Any
    metrics: Any
    _: KW_ONLY
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

    @property
    def title(self) -> str:
        """What the page is called."""
        return f"{self.model.name} on {self.data.name}"

    @property
    def everything(self) -> Any:
        """Predictions of all evaluated images."""
        return self.predictions

    @property
    def failed_lungs(self) -> pd.DataFrame:
        """Rows of the evaluated table whose lung mask was not trusted."""
        table = self.everything.table
        if "lungs_trusted" not in table or not self.data.lungs_sought:
            return table.iloc[:0]
        return table[~table["lungs_trusted"].fillna(True).astype(bool)]

    @property
    def cautions(self) -> list[Caution]:
        """What a reader must know before believing a figure, the gravest first."""
        raise NotImplementedError

    def summary(self) -> str:
        """The headline as a few lines of plain text for a terminal."""
        raise NotImplementedError

    def to_json(self) -> dict[str, Any]:
        """Every number of the page as plain values; NaN is None."""
        metrics, data = self.metrics, self.data
        content = {
            "format": FORMAT,
            "notice": NOTICE,
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
                "images_also_trained_on": None if data.overlap is None else max(0, data.overlap),
                "left_out": None if data.left_out is None else dict(vars(data.left_out)),
                "rejected": data.rejected[["path", "reason"]].to_dict("records"),
                "lungs": {"sought": data.lungs_sought, "not_trusted": len(self.failed_lungs)},
                **self._images(),
            },
            "bootstrap": {
                "resamples": self.resamples,
                "seed": self.seed,
                "level": LEVEL,
                "unit": "image" if metrics.patients == self.unknown_patients else "patient",
            },
            "threshold": {"value": self._threshold(), "from": self.threshold_from},
            "classes": list(metrics.classes),
            "warnings": [{"key": w.key, "text": w.text} for w in self.cautions],
            "test_openings": [dict(o) for o in self.openings],
            "input": dict(self.input_settings),
            "recipe": dict(self.recipe),
            "environment": dict(self.environment),
            "commands": list(self.commands),
        }
        return plain(content | self._figures())

    def _images(self) -> dict[str, Any]:
        """What `to_json` says of the data besides: images in each part of them."""
        raise NotImplementedError

    def _threshold(self) -> float | None:
        """The threshold, where one serves all classes."""
        return None

    def _figures(self) -> dict[str, Any]:
        """What `to_json` says besides."""
        raise NotImplementedError


@dataclass(frozen=True)
class Findings(Evaluation):
    """One evaluation of classes that exclude each other.

    Parameters
    ----------
    model, data, predictions, metrics, resamples, ..., created
        As in `Evaluation`.
    sources : Sources or None
        Figures by source.
    with_counted : Predictions or None
        `predictions` and images that only count within their source: those of a label that is counted as a class which
        has images of its own. None where there are none.
    places : Places or None
        Internal, held-out and within-source figures side by side.
    """

    predictions: Predictions
    metrics: Metrics
    sources: Sources | None
    _: KW_ONLY
    places: Places | None = None
    with_counted: Predictions | None = None

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
    def cautions(self) -> list[Caution]:
        """What a reader must know before believing a figure, the gravest first."""
        return cautions(self)

    def summary(self) -> str:
        """The headline as a few lines of plain text for a terminal."""
        from covidcxnet.evaluation.overview import summary

        return summary(self)

    def _images(self) -> dict[str, Any]:
        counted = {
            label: {"class": name, "images": self.counted_images.get(label, 0)}
            for label, name in self.data.counted.items()
        }
        return {"parts": _part_counts(self.data.parts), "counted_as": counted}

    def _threshold(self) -> float | None:
        return self.predictions.threshold if len(self.metrics.classes) == 2 else None

    def _figures(self) -> dict[str, Any]:
        metrics = self.metrics
        return {
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
        }


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
