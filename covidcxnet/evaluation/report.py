"""The result of an evaluation as plain data; page, card and terminal are views of it made elsewhere.

Research only: not a medical device.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from covidcxnet.evaluation.bootstrap import LEVEL, Estimate
from covidcxnet.evaluation.by_source import BySource, Site
from covidcxnet.evaluation.metrics import Metrics
from covidcxnet.evaluation.predictions import Predictions
from covidcxnet.reporting.pages import NOTICE
from covidcxnet.reporting.table import Table, count
from enhancement.notebook import NotebookDisplay

FORMAT = 1


@dataclass(frozen=True)
class Model:
    """Which model was evaluated."""

    name: str  # architecture
    weights: str  # the file they came from
    sha256: str = ""
    parameters: int = 0  # 0 where unknown, as is the size in bytes
    size: int = 0
    training: Mapping[str, Any] = field(default_factory=dict)  # as the weights file records it
    engine: str = ""  # that predicted, and the number format it computed in; empty where unknown
    precision: str = ""


@dataclass(frozen=True)
class LeftOut:
    """Images of the data that were not evaluated because lists say that training saw them, or their patient."""

    lists: tuple[str, ...]  # the files that say so
    images: int  # that stand there as train or validation themselves
    of_patients: int  # other images of a patient who does
    patients: int  # of both, where known
    listed: int  # images of the whole data that the lists name at all, whatever their part


@dataclass(frozen=True)
class Data:
    """Which images were evaluated, and which were not."""

    name: str
    split: str  # "test", "validation", "train" or "all" of a run, "other" for data that are not its own
    split_by: str  # "patient", "image", "" where the images were not split here
    phantom: bool  # whether the images are computed and show no patient
    parts: pd.DataFrame  # all images of the store: `part`, `label`; `patient`, `source`, `license` where known
    rejected: pd.DataFrame  # files that could not be read: `path`, `reason`
    lungs_sought: int = 0  # evaluated images in which lungs were looked for
    region: str = "none"
    overlap: int | None = -1  # evaluated images that were trained on; None: unknown, -1: a split rules it out
    seen_by_initial: int = 0  # evaluated images that the initial weights were trained on, or whose patients
    seen_by_teacher: int = 0  # the same of the teacher of a distilled network
    where: Mapping[str, Any] = field(default_factory=dict)  # rows that were used, column to value or values
    trained_sources: frozenset[str] | None = None  # of the images that were trained on; None where unknown
    counted: Mapping[str, str] = field(default_factory=dict)  # unknown label to the class its images count as
    left_out: LeftOut | None = None  # None where no list was given
    # Of independent findings, images with each (and "all") by part: `part`, `finding`, `images`, `patients`.
    findings: pd.DataFrame | None = None

    @property
    def unknown_patients(self) -> int:
        """Images of all parts whose patient is not known."""
        return int(self.parts["patient"].isna().sum()) if "patient" in self.parts else len(self.parts)


@dataclass(frozen=True)
class Caution:
    """What a reader must know before believing a figure."""

    key: str  # stable name for programs
    title: str
    text: str  # what follows from it


@dataclass(frozen=True)
class Case:
    """An image with its pictures as data URIs; a picture that was not made is empty."""

    path: str
    label: str  # true class, or the findings present
    predicted: str  # class, or the finding that is shown
    why: str  # it was picked
    probabilities: dict[str, float]
    correct: bool
    lungs: str = ""  # why the lung mask was not trusted
    outlined: bool = False  # whether the outline of the lungs is drawn
    fit: str = ""  # how well LIME's local model fits
    labelled: str = ""  # label in the data, where it is counted as `label`
    heat: str = ""  # what a reader of the Grad-CAM map must know
    radiograph: str = ""
    gradcam: str = ""
    lime: str = ""


@dataclass(frozen=True)
class Report(NotebookDisplay):
    """One evaluation: what was evaluated on what, its figures, and how they came about."""

    folder: Path  # of the four files below, once they are written
    model: Model
    data: Data
    predictions: Predictions  # of all evaluated images; figures are those of `predictions.graded`
    metrics: Metrics
    by_source: BySource | None  # None where no source is known
    _: KW_ONLY
    resamples: int  # of the bootstrap
    seed: int
    unknown_patients: int  # images without a known patient; each counts as a patient of its own
    threshold_from: str = "default"  # where the thresholds came from, in words
    openings: tuple[Mapping[str, Any], ...] = ()  # evaluations of this run's test set so far, oldest first
    cases: tuple[Case, ...] = ()
    log: pd.DataFrame | None = None  # of the training
    best_epoch: int | None = None  # of the weights
    input_settings: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    commands: tuple[str, ...] = ()  # that make these figures again
    created: str = ""  # local date and time
    cautions: tuple[Caution, ...] = ()  # from `cautions.cautions`, the gravest first

    def __repr__(self) -> str:
        return f"Report({str(self.folder)!r}, {self.title!r}, {count(self.metrics.images, 'image')})"

    def _html(self) -> str:
        overall = [(name.replace("_", " "), figure) for name, figure in self.metrics.overall.items()]
        rows = [("images", self.metrics.images), *overall, *(("caution", c.title) for c in self.cautions)]
        return str(Table((self.title, self.data.split), rows, note=f"{NOTICE}. The page: {self.path}").html())

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
        if self.exclusive:
            counted = {
                label: {"class": name, "images": self.counted_images[label]} for label, name in data.counted.items()
            }
            images: dict[str, Any] = {"parts": _part_counts(data.parts), "counted_as": counted}
        else:
            images = {"parts": [] if data.findings is None else data.findings.to_dict("records")}
        content = {
            "format": FORMAT,
            "notice": NOTICE,
            "created": self.created,
            "model": self.model,
            "data": {
                "name": data.name,
                "phantom": data.phantom,
                "where": data.where,
                "split": data.split,
                "split_by": data.split_by,
                "images_without_patient_in_all_parts": data.unknown_patients,
                "images": metrics.images,
                "patients": metrics.patients - self.unknown_patients,
                "images_without_patient": self.unknown_patients,
                "images_also_trained_on": None if data.overlap is None else max(0, data.overlap),
                "left_out": data.left_out and _record(data.left_out, {"listed": "found"}),
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
            "classes": metrics.classes,
            "warnings": [{"key": c.key, "text": c.text} for c in self.cautions],
            "test_openings": self.openings,
            "input": self.input_settings,
            "recipe": self.recipe,
            "environment": self.environment,
            "commands": self.commands,
            **({} if self.exclusive else {"multilabel": True}),
            "overall": metrics.overall,
            "by_class": {name: row.figures for name, row in metrics.by_class.items()},
        }
        return plain(content | (_exclusive if self.exclusive else _independent)(metrics, self.by_source))


# Keys of `metrics.json` are older than the names of the fields here.
_COUNTS = {
    "present": "present",
    "absent": "absent",
    "patients": "patients",
    "tp": "hits",
    "fp": "alarms",
    "fn": "misses",
    "tn": "passes",
    "threshold": "threshold",
    "source_alone": "place_alone",
}
_SITE = {"trained": "seen", "mean": "macro"}
_POOLED = {"within": "auroc_within_sources", "all_pairs": "auroc_of_all_pairs", "source_alone": "auroc_of_source_alone"}


def _exclusive(metrics: Metrics, by_source: BySource | None) -> dict[str, Any]:
    sources = places = None
    if by_source is not None and by_source.mean is not None:
        sources = {
            "rows": by_source.sources,
            "auroc_within_sources": by_source.mean.within,
            "auroc_of_source_alone": by_source.mean.source_alone,
            "classes_alone_in_their_sources": by_source.alone,
            "classes_without_shared_source": by_source.unshared,
        }
    if by_source is not None and by_source.sites:
        gap = by_source.gap
        places = {
            "rows": [_site(site, ("mean", "mean_probe", "one_sided")) for site in by_source.sites],
            "gap_of_auroc": gap
            and {**gap.auroc.to_dict(), **_record(gap, omit=("positives", "negatives", "auroc", "probe"))},
            "images_left_out_as_trained_on": by_source.skipped,
        }
    return {
        "confusion_matrix": [] if metrics.confusion is None else metrics.confusion.tolist(),
        "called_normal": [_record(missed, {"name": "class"}) for missed in metrics.missed],
        "reliability": {name: _record(row.reliability, omit=("error",)) for name, row in metrics.by_class.items()},
        "sources": sources,
        "places": places,
    }


def _independent(metrics: Metrics, by_source: BySource | None) -> dict[str, Any]:
    places = None
    if by_source is not None and by_source.sites:
        pooled = {row.name: _record(row, _POOLED, omit=("name", "few")) for row in by_source.pooled}
        places = {
            "rows": [_site(site) for site in by_source.sites],
            "by_class": pooled,
            "mean": by_source.mean and _record(by_source.mean, _POOLED, omit=("name", "few")),
            "images_left_out_as_trained_on": by_source.skipped,
        }
    rows = metrics.by_class.items()
    return {
        "counts": {name: {key: getattr(row, field) for field, key in _COUNTS.items()} for name, row in rows},
        "f1_zero": metrics.never_found,
        "undefined": metrics.untested,
        "places": places,
    }


def _site(site: Site, omit: tuple[str, ...] = ()) -> dict[str, Any]:
    values = _record(site, _SITE, (*omit, "mean_probe"))
    values["comparisons"] = [_record(c, {"probe": "statistics"}) for c in site.comparisons]
    return values if omit else values | {"statistics": site.mean_probe}


def _record(values: Any, keys: Mapping[str, str] = {}, omit: tuple[str, ...] = ()) -> dict[str, Any]:
    """Fields of a dataclass in their order, by their `keys`."""
    return {keys.get(name, name): value for name, value in vars(values).items() if name not in omit}


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
    """`value` as JSON knows it: dataclasses, NumPy and pandas scalars unpacked, NaN and infinities None."""
    if isinstance(value, Estimate):
        return value.to_dict()
    if is_dataclass(value):
        value = vars(value)
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, int, bool)):
        return value
    return None if value is pd.NA else str(value)
