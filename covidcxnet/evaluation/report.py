"""The result of an evaluation as plain data; page, card and terminal are views of it made elsewhere.

Research only: not a medical device.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from covidcxnet.evaluation.bootstrap import LEVEL, Estimate
from covidcxnet.evaluation.by_source import BySource, Pooled, Site
from covidcxnet.evaluation.metrics import Metrics
from covidcxnet.evaluation.predictions import Predictions
from covidcxnet.reporting.pages import NOTICE

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
    listed : int
        Images of the whole data that the lists name at all, whatever their part.
    """

    lists: tuple[str, ...]
    images: int
    of_patients: int
    patients: int
    listed: int


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
    findings : pd.DataFrame or None
        Of independent findings: columns `part`, `finding`, `images`, and `patients` where they are known, in which it
        is present; the finding "all" has all images of the part.
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
    findings: pd.DataFrame | None = None

    @property
    def unknown_patients(self) -> int:
        """Images of all parts whose patient is not known."""
        return int(self.parts["patient"].isna().sum()) if "patient" in self.parts else len(self.parts)


@dataclass(frozen=True)
class Caution:
    """What a reader must know before believing a figure.

    Parameters
    ----------
    key : str
        Stable name for programs.
    title, text : str
        In a few words, and what follows from it.
    """

    key: str
    title: str
    text: str


@dataclass(frozen=True)
class Case:
    """An image with its pictures as data URIs; a picture that was not made is empty.

    Parameters
    ----------
    path, label, predicted, why : str
        The image, its true class or the findings present, the class that was predicted or the finding that is shown,
        and why it was picked.
    probabilities : dict
        Class to probability.
    correct : bool
        Whether the prediction was right.
    lungs : str
        Why its lung mask was not trusted; empty where it was, or none was sought.
    outlined : bool
        Whether the outline of the lungs is drawn.
    fit : str
        How well LIME's local model fits, in words.
    labelled : str
        What the data call it, where that is counted as `label`.
    heat : str
        What a reader of its Grad-CAM map must know, in words.
    radiograph, gradcam, lime : str
        Data URIs.
    """

    path: str
    label: str
    predicted: str
    why: str
    probabilities: dict[str, float]
    correct: bool
    lungs: str = ""
    outlined: bool = False
    fit: str = ""
    labelled: str = ""
    heat: str = ""
    radiograph: str = ""
    gradcam: str = ""
    lime: str = ""


@dataclass(frozen=True)
class Report:
    """One evaluation.

    Parameters
    ----------
    folder : Path
        Where `report.html`, `metrics.json`, `predictions.csv` and `card.md` lie once the report is written.
    model, data : Model, Data
        What was evaluated on what.
    predictions : Predictions
        Of all evaluated images; figures are those of `predictions.graded`.
    metrics : Metrics
    by_source : BySource or None
        None where no source is known.
    resamples, seed, unknown_patients : int
        The bootstrap's; images without a known patient count as patients of their own.
    threshold_from : str
        Where the thresholds came from, in words.
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
    cautions : tuple of Caution
        From `cautions.cautions`, the gravest first.
    """

    folder: Path
    model: Model
    data: Data
    predictions: Predictions
    metrics: Metrics
    by_source: BySource | None
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
    cautions: tuple[Caution, ...] = ()

    @property
    def path(self) -> Path:
        """The page."""
        return self.folder / "report.html"

    @property
    def metrics_path(self) -> Path:
        """The numbers."""
        return self.folder / "metrics.json"

    @property
    def card_path(self) -> Path:
        """The measured part of a model card, to be pasted."""
        return self.folder / "card.md"

    @property
    def predictions_path(self) -> Path:
        """The table, a row an image."""
        return self.folder / "predictions.csv"

    @property
    def exclusive(self) -> bool:
        """Whether one class rules out the others."""
        return self.metrics.task == "exclusive"

    @property
    def title(self) -> str:
        """What the page is called."""
        return f"{self.model.name} on {self.data.name}"

    @property
    def sites(self) -> tuple[Site, ...]:
        """Figures of sources side by side; empty where no source is known or nothing can be compared."""
        return () if self.by_source is None else self.by_source.sites

    @property
    def failed_lungs(self) -> pd.DataFrame:
        """Rows of the evaluated table whose lung mask was not trusted."""
        table = self.predictions.table
        if "lungs_trusted" not in table or not self.data.lungs_sought:
            return table.iloc[:0]
        return table[~table["lungs_trusted"].fillna(True).astype(bool)]

    @property
    def counted_images(self) -> dict[str, int]:
        """Evaluated images of each label that the model does not know and that is counted as one of its classes."""
        labels = self.predictions.labelled
        return {label: int((labels == label).sum()) for label in self.data.counted}

    def called(self, name: str) -> str:
        """A class in words: ``pneumonia counted as covid19`` where it has no images of its own."""
        labels = [label for label, counted_as in self.data.counted.items() if counted_as == name]
        if not labels or (self.predictions.labelled == name).any():
            return name
        return f"{', '.join(labels)} counted as {name}"

    def to_json(self) -> dict[str, Any]:
        """Every number of the page as plain values; NaN is None. Keys are a format that other programs read."""
        metrics, data = self.metrics, self.data
        left = data.left_out
        listed = left and {name: value for name, value in vars(left).items() if name != "listed"}
        if self.exclusive:
            counted = {
                label: {"class": name, "images": self.counted_images[label]} for label, name in data.counted.items()
            }
            images = {"parts": _part_counts(data.parts), "counted_as": counted}
        else:
            images = {"parts": [] if data.findings is None else data.findings.to_dict("records")}
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
                "left_out": None if left is None else {**(listed or {}), "found": left.listed},
                "rejected": data.rejected[["path", "reason"]].to_dict("records"),
                "lungs": {"sought": data.lungs_sought, "not_trusted": len(self.failed_lungs)},
                **images,
            },
            "bootstrap": {
                "resamples": self.resamples,
                "seed": self.seed,
                "level": LEVEL,
                "unit": "image" if metrics.patients == self.unknown_patients else "patient",
            },
            "threshold": {"value": self.predictions.threshold, "from": self.threshold_from},
            "classes": list(metrics.classes),
            "warnings": [{"key": c.key, "text": c.text} for c in self.cautions],
            "test_openings": [dict(o) for o in self.openings],
            "input": dict(self.input_settings),
            "recipe": dict(self.recipe),
            "environment": dict(self.environment),
            "commands": list(self.commands),
            **({} if self.exclusive else {"multilabel": True}),
            "overall": _estimates(metrics.overall),
            "by_class": {name: _estimates(row.figures) for name, row in metrics.by_class.items()},
        }
        return plain(content | (_exclusive(metrics, self.by_source) if self.exclusive else _independent(self)))


def _exclusive(metrics: Metrics, by_source: BySource | None) -> dict[str, Any]:
    return {
        "confusion_matrix": [] if metrics.confusion is None else metrics.confusion.tolist(),
        "called_normal": [
            {"class": m.name, "missed": m.missed, "images": m.images, "patients": m.patients, "rate": m.rate.to_dict()}
            for m in metrics.missed
        ],
        "reliability": {
            name: {key: bins.tolist() for key, bins in vars(row.reliability).items() if key != "error"}
            for name, row in metrics.by_class.items()
        },
        "sources": None if by_source is None else _sources(by_source),
        "places": None if by_source is None else _sites(by_source, exclusive=True),
    }


def _independent(report: Report) -> dict[str, Any]:
    metrics = report.metrics
    return {
        "counts": {
            name: {
                "present": row.present,
                "absent": row.absent,
                "patients": row.patients,
                "hits": row.tp,
                "alarms": row.fp,
                "misses": row.fn,
                "passes": row.tn,
                "threshold": row.threshold,
                "place_alone": row.source_alone,
            }
            for name, row in metrics.by_class.items()
        },
        "f1_zero": list(metrics.never_found),
        "undefined": list(metrics.untested),
        "places": None if report.by_source is None else _sites(report.by_source, exclusive=False),
    }


def _sources(by_source: BySource) -> dict[str, Any] | None:
    if by_source.mean is None:
        return None
    return {
        "rows": [
            {**vars(row), "accuracy": row.accuracy.to_dict(), "auroc": row.auroc.to_dict()} for row in by_source.sources
        ],
        "auroc_within_sources": by_source.mean.within.to_dict(),
        "auroc_of_source_alone": by_source.mean.source_alone,
        "classes_alone_in_their_sources": list(by_source.alone),
        "classes_without_shared_source": [list(pair) for pair in by_source.unshared],
    }


def _sites(by_source: BySource, exclusive: bool) -> dict[str, Any] | None:
    if not by_source.sites:
        return None
    rows, gap, mean = [_site(site, exclusive) for site in by_source.sites], by_source.gap, by_source.mean
    skipped = {"images_left_out_as_trained_on": by_source.skipped}
    if exclusive:
        difference = (
            None if gap is None else {**gap.auroc.to_dict(), **{k: v for k, v in vars(gap).items() if k != "auroc"}}
        )
        return {"rows": rows, "gap_of_auroc": difference, **skipped}
    pooled = {row.name: _pooled(row) for row in by_source.pooled}
    return {"rows": rows, "by_class": pooled, "mean": None if mean is None else _pooled(mean), **skipped}


def _site(site: Site, exclusive: bool) -> dict[str, Any]:
    compared = []
    for c in site.comparisons:
        words = {key: value for key, value in vars(c).items() if key not in ("auroc", "probe")}
        compared.append({**words, "auroc": c.auroc.to_dict(), "statistics": _optional(c.probe)})
    values = {
        "kind": site.kind,
        "sources": site.sources,
        "seen": site.trained,
        "images": site.images,
        "patients": site.patients,
        "by_label": site.by_label,
        "comparisons": compared,
        "calibration": _estimates(site.calibration),
    }
    means = {"macro": site.mean.to_dict(), "one_sided": site.one_sided, "statistics": _optional(site.mean_probe)}
    return values if exclusive else values | means


def _pooled(row: Pooled) -> dict[str, Any]:
    return {
        "auroc_within_sources": row.within.to_dict(),
        "auroc_of_all_pairs": _optional(row.all_pairs),
        "auroc_of_source_alone": row.source_alone,
    }


def _estimates(figures: Mapping[str, Estimate]) -> dict[str, Any]:
    return {key: estimate.to_dict() for key, estimate in figures.items()}


def _optional(estimate: Estimate | None) -> dict[str, Any] | None:
    return None if estimate is None else estimate.to_dict()


def _part_counts(parts: pd.DataFrame) -> dict[str, Any]:
    counted: dict[str, Any] = {}
    for part, rows in parts.groupby("part", sort=False):
        counts: dict[str, Any] = {"images": len(rows), "by_class": rows["label"].value_counts().to_dict()}
        for column, key in (("patient", "patients"), ("source", "by_source")):
            if column in rows and rows[column].notna().any():
                values = rows[column].value_counts().to_dict()
                counts[key] = len(values) if column == "patient" else values
        counted[str(part)] = counts
    return counted


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
