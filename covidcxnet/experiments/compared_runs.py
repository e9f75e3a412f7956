"""What a run or a paper brings to a comparison: a row of figures; for a run also its report, log and test images."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from covidcxnet.datasets.tables import plain_table
from covidcxnet.evaluation.evaluator import evaluate
from covidcxnet.evaluation.predictions import PREFIX
from covidcxnet.models.counts import flops
from covidcxnet.pretrained import load_model
from covidcxnet.recipes import load_yaml
from covidcxnet.reporting.table import Estimate
from covidcxnet.training.run_folder import Run
from enhancement.errors import InputError
from enhancement.parallel import sha256
from weights.format import read_metadata

# Studies whose printed figures can stand beside runs.
STUDIES = ("covid-cxnet", "pneumonia", "radiography", "group-q")


@dataclass(frozen=True)
class Row:
    """Figures of one run or published system, in 0..1; None where unknown."""

    name: str
    model: str  # architecture
    published: str = ""  # study that printed it; empty for what was measured here
    images: int | None = None  # of the test
    f1: Estimate | None = None  # mean over classes
    accuracy: Estimate | None = None
    auroc: Estimate | None = None
    loss: Estimate | None = None  # cross-entropy without weights
    f1_by_class: Mapping[str, Estimate] = field(default_factory=dict)
    # disease to images called normal and images of it, which papers do not always print
    called_normal: Mapping[str, tuple[int, int | None]] = field(default_factory=dict)
    difference: Estimate | None = None  # AUROC minus that of the first run, on the same test images
    parameters: int | None = None
    flops: float | None = None  # for one stack, two for each multiply-add
    validation_auroc: float | None = None
    seconds: float | None = None  # per epoch, median
    best_epoch: int | None = None  # whose weights are used
    epochs: int | None = None
    source: str = ""  # run folder, or place in the paper
    split: str = ""
    note: str = ""

    @property
    def never_found(self) -> tuple[str, ...]:
        """Classes with an F1 of zero: they have images, and the model recognises none of them."""
        return tuple(name for name, figure in self.f1_by_class.items() if figure.value == 0)


@dataclass(frozen=True)
class ComparedRun:
    """A run with everything that a comparison shows of it."""

    name: str
    record: Run
    report: Mapping[str, Any]  # `metrics.json` of the test split and the best weights
    predictions: pd.DataFrame  # `predictions.csv`, with a column `image` that names the same file in every run
    flops: int | None
    log: pd.DataFrame | None

    @property
    def classes(self) -> tuple[str, ...]:
        """Classes in the order of the model's outputs."""
        return tuple(self.report["classes"])

    @property
    def independent(self) -> bool:
        """Whether its classes are findings that do not exclude each other."""
        return bool(self.report.get("multilabel"))

    @property
    def task(self) -> str:
        """The task of a data set: whether classes exclude each other or are independent findings."""
        return "independent" if self.independent else "exclusive"

    @property
    def truth(self) -> np.ndarray:
        """float [N, K]: 1 of the class, 0 not, NaN unknown."""
        if self.independent:
            return self.predictions[list(self.classes)].to_numpy(float)
        labels = self.predictions["label"].to_numpy(str)
        return np.stack([labels == name for name in self.classes], axis=1).astype(float)

    @property
    def scores(self) -> np.ndarray:
        """Probabilities, float [N, K]."""
        return self.predictions[[PREFIX + name for name in self.classes]].to_numpy(float)

    @property
    def images(self) -> frozenset[str]:
        """Test images, by content where it is known, else by path."""
        return frozenset(self.predictions["image"])

    @property
    def best_epoch(self) -> int | None:
        """Epoch of the weights that were evaluated."""
        return self.report["model"].get("training", {}).get("epoch") or self.record.status.get("best_epoch")

    def figure(self, name: str, label: str | None = None) -> Estimate:
        """A figure over all images, or of one class, as the run's report has it."""
        part = self.report["overall"] if label is None else self.report["by_class"].get(label, {})
        return Estimate.from_dict(part.get(name), self.report["bootstrap"]["resamples"])

    def row(self, difference: Estimate | None = None) -> Row:
        """The run's line in the table."""
        report, recipe, log = self.report, self.record.recipe, self.log
        # log and weights of a hierarchical run hold the figures of the second level alone
        stored = report["model"].get("training", {}).get("figures") or {}
        validated = self.record.status.get("whole_model") or stored
        overall = {name: self.figure(name) for name in report["overall"]}
        return Row(
            name=self.name,
            model=report["model"]["name"],
            images=report["data"]["images"],
            f1=overall.get("macro_f1"),
            accuracy=overall.get("accuracy"),
            auroc=overall.get("auroc"),
            loss=overall.get("loss"),
            f1_by_class={label: self.figure("f1", label) for label in self.classes},
            called_normal=called_normal(report),
            difference=difference,
            parameters=report["model"]["parameters"] or None,
            flops=self.flops,
            seconds=None if log is None or "seconds" not in log else float(log["seconds"].median()),
            validation_auroc=validated.get("val_auroc"),
            best_epoch=self.best_epoch,
            epochs=None if log is None else len(log),
            source=str(self.record.path),
            split=f"by {recipe.split_by.replace('_', ' ')}; {report['data']['name']}",
            note=f"initial weights: {recipe.init}; seed {recipe.seed}",
        )


def called_normal(report: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Disease to its test images that were called normal and all of its images, from `metrics.json`."""
    return {m["class"]: (m["missed"], m["images"]) for m in report.get("called_normal", [])}


def load_run(run: Run, name: str, known_flops: dict[str, int | None], **options: Any) -> ComparedRun:
    """A run with its report, made with `options` where none fits; `known_flops`, by architecture, is filled."""
    report, predictions = report_of(run, **options)
    return ComparedRun(
        name=name,
        record=run,
        report=report,
        # the same order in every run, so that truth and scores of two runs can be paired
        predictions=predictions.assign(image=_identities(run, predictions)).sort_values("image", kind="stable"),
        flops=_flops(run, known_flops),
        log=run.log if (run.path / "log.csv").is_file() else None,
    )


def report_of(run: Run, **options: Any) -> tuple[dict[str, Any], pd.DataFrame]:
    """`metrics.json` and `predictions.csv` of a run's test split; evaluates the run where they do not fit it."""
    report, predictions, reason = read_report(run)
    if not reason:
        return report, predictions
    print(f"{run.path}: {reason}; opening its test set to evaluate it", file=sys.stderr, flush=True)
    result = evaluate(run, explain=False, **options)
    return json.loads(result.metrics_path.read_text(encoding="utf-8")), _read_predictions(result.predictions_path)


def read_report(run: Run) -> tuple[dict[str, Any], pd.DataFrame, str]:
    """The run's report as it is, and why it cannot be used; empty if it can."""
    folder, nothing = run.path / "report", pd.DataFrame()
    weights = run.best_weights
    try:
        report = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        predictions = _read_predictions(folder / "predictions.csv")
        evaluated, split, images = report["model"]["sha256"], report["data"]["split"], report["data"]["images"]
        classes, confusion = list(report["classes"]), report.get("confusion_matrix")
        labels = set(classes) if report.get("multilabel") else {"path", "label", "predicted"}
        complete = {"overall", "by_class"} <= set(report) and "resamples" in report["bootstrap"]
    except FileNotFoundError:
        return {}, nothing, "no report yet"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return {}, nothing, f"its report is damaged ({type(error).__name__}: {error})"
    fits = len(predictions) == images and {PREFIX + name for name in classes} | labels <= set(predictions)
    if fits and confusion is not None:
        counts = pd.crosstab(predictions["label"], predictions["predicted"])
        fits = counts.reindex(index=classes, columns=classes, fill_value=0).to_numpy().tolist() == confusion
    for wrong, reason in (
        (not complete, "its report is of another version"),
        (split != "test", f"its report is of {split}"),
        (evaluated != sha256(weights), "its report is of other weights"),
        (not fits, "metrics.json and predictions.csv of its report do not belong together"),
    ):
        if wrong:
            return {}, nothing, reason
    return report, predictions, ""


def _read_predictions(path: Path) -> pd.DataFrame:
    # class names stay text, also where they look like a number ("01") or like nothing ("None")
    names = ("path", "label", "labelled", "predicted")
    empty = {column: [""] for column in pd.read_csv(path, nrows=0).columns if column not in names}
    text = dict.fromkeys((*names, "patient", "source"), str)
    return plain_table(pd.read_csv(path, dtype=text, keep_default_na=False, na_values=empty))


def _identities(run: Run, predictions: pd.DataFrame) -> list[str]:
    """A name for each image that is the same in every run: by the file's content where the store knows it."""
    try:
        with run.store as store:
            hashes = dict(zip(store.table["path"], store.table["sha256"], strict=True))
    except (InputError, KeyError, OSError):
        hashes = {}
    known = all(isinstance(hashes.get(path), str) for path in predictions["path"])
    names = pd.Series([hashes[path] if known else path for path in predictions["path"]], dtype=object)
    # numbered, so that copies of one file stay distinct
    return [f"{name}#{nth}" for name, nth in zip(names, names.groupby(names).cumcount(), strict=True)]


def _flops(run: Run, known: dict[str, int | None]) -> int | None:
    """Operations for one stack; None for a model that has no layers to count."""
    # Building a network takes seconds, and runs that are compared often share one.
    metadata = read_metadata(run.best_weights)
    key = json.dumps([metadata.get("architecture"), len(metadata.get("classes", ()))], sort_keys=True)
    if key not in known:
        try:
            known[key] = flops(load_model(run.best_weights).model) or None
        except (InputError, AttributeError):
            known[key] = None
    return known[key]


def citation(name: str) -> str:
    """Authors, title and place of a study, and what holds for all of its rows."""
    study = _study(name)
    note = f" {study['note'][0].upper()}{study['note'][1:].rstrip('.')}." if "note" in study else ""
    return f"{study['authors']}: {study['title']}. {study['where']}. Split: {study['split']}.{note}"


def published_rows(names: Sequence[str]) -> list[Row]:
    """What the named `STUDIES` print about their systems, in the order of the papers; none of it was measured here."""
    return [_published(name, values) for name in dict.fromkeys(names) for values in _study(name)["rows"]]


@cache
def _study(name: str) -> dict[str, Any]:
    if name not in STUDIES:
        raise InputError(f"published: {name!r} given, one of {', '.join(STUDIES)} expected")
    text = files("covidcxnet.experiments").joinpath("published.yaml").read_text(encoding="utf-8")
    return load_yaml(text)[name]


def _published(study: str, values: Mapping[str, Any]) -> Row:
    computed = f"computed here: {values['computed']}" if "computed" in values else ""
    low, high = values.get("accuracy_range", (math.nan, math.nan))
    same = ("parameters", "flops", "best_epoch", "epochs")
    figures: dict[str, Any] = {
        name: Estimate(float(values[name])) for name in ("f1", "auroc", "loss") if name in values
    }
    return Row(
        name=f"{values['model']}, {values['group']}" if "group" in values else values["model"],
        model=values["model"],
        published=study,
        accuracy=Estimate(values["accuracy"], low, high) if "accuracy" in values else None,
        f1_by_class={label: Estimate(float(value)) for label, value in values.get("f1_by_class", {}).items()},
        called_normal={name: (n, *(rest or [None])) for name, (n, *rest) in values.get("called_normal", {}).items()},
        seconds=values.get("seconds_per_epoch"),
        source=values["source"],
        split=values.get("split", _study(study)["split"]),
        note="; ".join(filter(None, (values.get("note", ""), computed))),
        **{name: values.get(name) for name in same} | figures,
    )
