"""What one run brings to a comparison: its report (made where it is missing or out of date), log, size and images."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from covidcxnet.evaluation.bootstrap import Estimate
from covidcxnet.evaluation.predictions import PREFIX
from covidcxnet.experiments.compare_rows import Row
from enhancement.errors import InputError

if TYPE_CHECKING:
    from covidcxnet.training import Run

_COLUMNS = ("path", "label", "predicted")


@dataclass(frozen=True)
class Entry:
    """A run with everything that a comparison shows of it.

    Parameters
    ----------
    name : str
        What it is called here.
    run : Run
        The folder.
    report : dict
        Its `metrics.json`, of the test split and the best weights.
    predictions : pd.DataFrame
        Its `predictions.csv`, with a column `image` that names the same file in every run.
    flops : int or None
        Operations for one stack.
    log : pd.DataFrame or None
        Its log.
    """

    name: str
    run: Run
    report: Mapping[str, Any]
    predictions: pd.DataFrame
    flops: int | None
    log: pd.DataFrame | None

    @property
    def classes(self) -> tuple[str, ...]:
        """Classes in the order of the model's outputs."""
        return tuple(self.report["classes"])

    @property
    def multilabel(self) -> bool:
        """Whether its classes are findings that do not exclude each other."""
        return bool(self.report.get("multilabel"))

    @property
    def truth(self) -> np.ndarray:
        """float [N, C]: 1 of the class, 0 not, NaN unknown."""
        if self.multilabel:
            return self.predictions[list(self.classes)].to_numpy(float)
        labels = self.predictions["label"].to_numpy(str)
        return np.stack([labels == name for name in self.classes], axis=1).astype(float)

    @property
    def scores(self) -> np.ndarray:
        """Probabilities, float [N, C]."""
        return self.predictions[[PREFIX + name for name in self.classes]].to_numpy(float)

    @property
    def images(self) -> frozenset[str]:
        """Test images, by content where it is known, else by path."""
        return frozenset(self.predictions["image"])

    @property
    def best_epoch(self) -> int | None:
        """Epoch of the weights that were evaluated."""
        return self.report["model"].get("training", {}).get("epoch") or self.run.status.get("best_epoch")

    @property
    def validation_auroc(self) -> float | None:
        """AUROC on validation of the weights that were evaluated; of both levels together where there are two.

        A hierarchical run's log and weights tell those of the second level alone.
        """
        stored = self.report["model"].get("training", {}).get("figures") or {}
        return (self.run.status.get("whole_model") or stored).get("val_auroc")

    def figure(self, name: str, label: str | None = None) -> Estimate:
        """A figure over all images, or of one class, as the run's report has it."""
        part = self.report["overall"] if label is None else self.report["by_class"].get(label, {})
        return _estimate(part.get(name), self.report["bootstrap"]["resamples"])

    def overall(self, name: str) -> Estimate | None:
        """A figure over all images; None where such a report has none."""
        return self.figure(name) if name in self.report["overall"] else None

    def row(self, difference: Estimate | None = None) -> Row:
        """The run's line in the table."""
        report, recipe = self.report, self.run.recipe
        seconds = None if self.log is None or "seconds" not in self.log else float(self.log["seconds"].median())
        called = {m["class"]: (m["missed"], m["images"]) for m in report.get("called_normal", [])}
        return Row(
            name=self.name,
            model=report["model"]["name"],
            images=report["data"]["images"],
            f1=self.overall("macro_f1"),
            accuracy=self.overall("accuracy"),
            auroc=self.overall("auroc"),
            f1_by_class={label: self.figure("f1", label) for label in self.classes},
            called_normal=called,
            difference=difference,
            parameters=report["model"]["parameters"] or None,
            flops=self.flops,
            seconds=seconds,
            validation_auroc=self.validation_auroc,
            best_epoch=self.best_epoch,
            epochs=None if self.log is None else len(self.log),
            source=str(self.run.path),
            split=f"by {recipe.split_by.replace('_', ' ')}; {report['data']['name']}",
            note=f"initial weights: {recipe.init}; seed {recipe.seed}",
        )


def load_entry(run: Run, name: str, known_flops: dict[str, int | None], **options: Any) -> Entry:
    """Read a run's report, or evaluate the run where there is none that fits its best weights.

    Parameters
    ----------
    run : Run
        With best weights.
    name : str
        What it is called in the comparison.
    known_flops : dict
        Operations by architecture, filled here: the same network is built once.
    **options
        Of `evaluate`, where it is called.

    Raises
    ------
    InputError
        If the run has no weights, or cannot be evaluated.
    """
    report, predictions, missing = read_report(run)
    if missing:
        from covidcxnet.evaluation.evaluator import evaluate

        print(f"{run.path}: {missing}; evaluating its test split", file=sys.stderr, flush=True)
        made = evaluate(run, explain=False, **options)
        report = json.loads(made.metrics_path.read_text(encoding="utf-8"))
        predictions = _read_predictions(made.predictions_path)
    return Entry(
        name=name,
        run=run,
        report=report,
        predictions=predictions.assign(image=_identities(run, predictions)),
        flops=_flops(run, known_flops),
        log=run.log if (run.path / "log.csv").is_file() else None,
    )


def read_report(run: Run) -> tuple[dict[str, Any], pd.DataFrame, str]:
    """The run's report as it lies there, and why it cannot be used; empty if it can."""
    from enhancement import parallel

    folder, nothing = run.path / "report", pd.DataFrame()
    weights = run.best_weights
    try:
        report = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        predictions = _read_predictions(folder / "predictions.csv")
        sha256, split = report["model"]["sha256"], report["data"]["split"]
        confusion, images = report.get("confusion_matrix"), report["data"]["images"]
        classes = list(report["classes"])
        columns = {PREFIX + name for name in classes} | (set(classes) if report.get("multilabel") else set(_COLUMNS))
        complete = {"overall", "by_class"} <= set(report) and "resamples" in report["bootstrap"]
    except FileNotFoundError:
        return {}, nothing, "no report yet"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return {}, nothing, f"its report is damaged ({type(error).__name__}: {error})"
    if not complete:
        return {}, nothing, "its report is of another version"
    if split != "test":
        return {}, nothing, f"its report is of {split}"
    if sha256 != parallel.sha256(weights):
        return {}, nothing, "its report is of other weights"
    fits = len(predictions) == images and columns <= set(predictions)
    if not fits or (confusion is not None and _confusion(predictions, classes) != confusion):
        return {}, nothing, "metrics.json and predictions.csv of its report do not belong together"
    return report, predictions, ""


def _read_predictions(path: Path) -> pd.DataFrame:
    """`Predictions.save`'s table: names stay text, also where they look like a number or like nothing."""
    names = ("path", "label", "labelled", "predicted")
    empty = {column: [""] for column in pd.read_csv(path, nrows=0).columns if column not in names}
    text = dict.fromkeys((*names, "patient", "source"), str)
    return pd.read_csv(path, dtype=text, keep_default_na=False, na_values=empty)


def _confusion(predictions: pd.DataFrame, classes: list[str]) -> list[list[int]]:
    """Counted from the table."""
    counts = pd.crosstab(predictions["label"], predictions["predicted"])
    return counts.reindex(index=classes, columns=classes, fill_value=0).to_numpy().tolist()


def _identities(run: Run, predictions: pd.DataFrame) -> list[str]:
    """A name for each image that is the same in every run: by the file's content where the store knows it."""
    try:
        with run.store as store:
            hashes = dict(zip(store.table["path"], store.table["sha256"], strict=True))
    except (InputError, KeyError, OSError):
        hashes = {}
    known = all(isinstance(hashes.get(path), str) for path in predictions["path"])
    names = pd.Series([hashes[path] if known else path for path in predictions["path"]], dtype=object)
    # Copies of one file stay apart.
    return [f"{name}#{nth}" for name, nth in zip(names, names.groupby(names).cumcount(), strict=True)]


def _flops(run: Run, known: dict[str, int | None]) -> int | None:
    """Operations for one stack; None for a model that has no layers to count."""
    from weights.format import read_metadata

    metadata = read_metadata(run.best_weights)
    key = json.dumps([metadata.get("architecture"), len(metadata.get("classes", ()))], sort_keys=True)
    if key not in known:
        from covidcxnet.models.counts import flops
        from covidcxnet.pretrained import load_model

        try:
            known[key] = flops(load_model(run.best_weights).model) or None
        except (InputError, AttributeError):
            known[key] = None
    return known[key]


def _estimate(part: Mapping[str, Any] | None, resamples: int) -> Estimate:
    if part is None:
        return Estimate(math.nan)
    value, low, high = (math.nan if part.get(key) is None else part[key] for key in ("value", "low", "high"))
    return Estimate(value, low, high, part.get("undefined_resamples", 0), resamples)
