"""Evaluation of independent findings: what was found, as plain data, and its report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from covidcxnet.datasets.multilabel import multilabel_targets
from covidcxnet.evaluation.bootstrap import LEVEL, Bootstrap
from covidcxnet.evaluation.cases import Case
from covidcxnet.evaluation.cautions import Caution
from covidcxnet.evaluation.findings import FORMAT, Data, Model, plain
from covidcxnet.evaluation.multilabel_cautions import finding_cautions
from covidcxnet.evaluation.multilabel_metrics import FindingMetrics, FindingPredictions, measure_findings
from enhancement.errors import InputError

if TYPE_CHECKING:
    from covidcxnet.evaluation.report import Report
    from covidcxnet.evaluation.subject import Subject
    from covidcxnet.training import Run


@dataclass(frozen=True)
class MultilabelFindings:
    """One evaluation of independent findings; as `findings.Findings`, with figures by finding.

    Parameters
    ----------
    model, data, resamples, seed, unknown_patients, threshold_from, openings, cases, log, best_epoch
        As in `findings.Findings`.
    predictions, metrics : FindingPredictions, FindingMetrics
        What was predicted and measured.
    parts : pd.DataFrame
        For each part of the data and finding: images, and patients where they are known, in which it is present.
    input_settings, recipe, environment, commands, created
        As in `findings.Findings`.
    """

    model: Model
    data: Data
    predictions: FindingPredictions
    metrics: FindingMetrics
    parts: pd.DataFrame
    resamples: int
    seed: int
    unknown_patients: int
    threshold_from: str
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
    def everything(self) -> FindingPredictions:
        """All evaluated images."""
        return self.predictions

    @property
    def failed_lungs(self) -> pd.DataFrame:
        """Rows of the evaluated table whose lung mask was not trusted."""
        table = self.predictions.table
        if "lungs_trusted" not in table or not self.data.lungs_sought:
            return table.iloc[:0]
        return table[~table["lungs_trusted"].fillna(True).astype(bool)]

    @property
    def cautions(self) -> list[Caution]:
        """What a reader must know before believing a figure."""
        return finding_cautions(self)

    def summary(self) -> str:
        """The headline as a few lines of plain text for a terminal."""
        from covidcxnet.evaluation.multilabel_page import summary

        return summary(self)

    def to_json(self) -> dict[str, Any]:
        """Every number of the page as plain values; NaN is None."""
        metrics, data = self.metrics, self.data
        counts = ("present", "absent", "patients", "hits", "alarms", "misses", "passes", "threshold", "place_alone")
        content = {
            "format": FORMAT,
            "notice": "Research only: not a medical device",
            "created": self.created,
            "multilabel": True,
            "model": {**vars(self.model), "training": dict(self.model.training)},
            "data": {
                "name": data.name,
                "phantom": data.phantom,
                "where": dict(data.where),
                "split": data.split,
                "split_by": data.split_by,
                "images": metrics.images,
                "patients": metrics.patients - self.unknown_patients,
                "images_without_patient": self.unknown_patients,
                "parts": self.parts.to_dict("records"),
                "images_also_trained_on": None if data.overlap is None else max(0, data.overlap),
                "rejected": data.rejected[["path", "reason"]].to_dict("records"),
                "lungs": {"sought": data.lungs_sought, "not_trusted": len(self.failed_lungs)},
            },
            "bootstrap": {
                "resamples": self.resamples,
                "seed": self.seed,
                "level": LEVEL,
                "unit": "image" if metrics.patients == self.unknown_patients else "patient",
            },
            "threshold": {"value": None, "from": self.threshold_from},
            "classes": list(metrics.classes),
            "overall": {_MACRO.get(name, name): e.to_dict() for name, e in metrics.macro.items()},
            "by_class": {f.name: {name: e.to_dict() for name, e in f.figures.items()} for f in metrics.findings},
            "counts": {f.name: {name: getattr(f, name) for name in counts} for f in metrics.findings},
            "f1_zero": list(metrics.collapsed),
            "undefined": list(metrics.untested),
            "warnings": [{"key": w.key, "text": w.text} for w in self.cautions],
            "test_openings": [dict(o) for o in self.openings],
            "input": dict(self.input_settings),
            "recipe": dict(self.recipe),
            "environment": dict(self.environment),
            "commands": list(self.commands),
        }
        return plain(content)


_MACRO = {"f1": "macro_f1"}


def evaluate_findings(
    subject: Subject,
    run: Run | None,
    folder: Path,
    *,
    threshold: float | str,
    bootstrap: int,
    seed: int,
    explain: bool,
    batch_size: int,
    progress: bool,
    commands: tuple[str, ...],
) -> Report:
    """Evaluate a classifier of independent findings and write the report; arguments are those of `evaluate`.

    A `threshold` of 0.5, the default, stands for the thresholds that the weights bring, where they bring any; "auto"
    chooses them anew on the run's validation split.
    """
    from covidcxnet.evaluation import evaluator
    from covidcxnet.evaluation.multilabel_page import write_findings_report

    classifier, table = subject.classifier, subject.table
    targets = multilabel_targets(table, classifier.classes)
    if np.isnan(targets).all():
        raise InputError(f"{subject.data.name}: none of {', '.join(classifier.classes)} is known of any image")
    cut, origin = _thresholds(subject, threshold, batch_size, progress)
    probabilities = evaluator._predict(
        subject.store, subject.rows, classifier, batch_size, progress, subject.data.split
    )
    predictions = FindingPredictions(table, targets, probabilities, classifier.classes, cut)
    model = evaluator._model(classifier)
    openings = evaluator._open_test(subject, model.sha256, ",".join(f"{value:.5g}" for value in cut))
    draws = Bootstrap(predictions.column("patient"), len(predictions), resamples=bootstrap, seed=seed)
    metrics = measure_findings(predictions, draws)
    cases: tuple[Case, ...] = ()
    if explain:
        from covidcxnet.evaluation.multilabel_cases import draw_finding_cases

        cases = draw_finding_cases(predictions, metrics, subject.store, subject.rows, classifier, progress=progress)
    findings = MultilabelFindings(
        model=model,
        data=subject.data,
        predictions=predictions,
        metrics=metrics,
        parts=_parts(subject, run),
        resamples=bootstrap,
        seed=seed,
        unknown_patients=draws.unknown,
        threshold_from=origin,
        openings=openings,
        cases=cases,
        log=run.log if run is not None and (run.path / "log.csv").is_file() else None,
        best_epoch=evaluator._best_epoch(run, classifier),
        input_settings=classifier.input.to_dict(),
        recipe=run.recipe.to_dict() if run is not None else {},
        environment=evaluator._environment(seed),
        commands=commands,
        created=datetime.now().strftime("%Y-%m-%d %H:%M"),
    )
    return write_findings_report(findings, folder)


def _thresholds(subject: Subject, threshold: float | str, batch_size: int, progress: bool) -> tuple[np.ndarray, str]:
    """Threshold of each finding, float64 [K], and in words where they come from."""
    from covidcxnet.evaluation import evaluator
    from covidcxnet.training.multilabel import best_thresholds

    classifier, run = subject.classifier, subject.run
    if threshold == 0.5:
        chosen = bool(classifier.metadata.get("thresholds"))
        said = "highest F1 of each finding on validation, stored with the weights"
        return classifier.thresholds, said if chosen else "0.5 for all: the weights bring none"
    if threshold != "auto":
        return np.full(len(classifier.classes), float(threshold)), "as asked for"
    if run is None:
        raise InputError("threshold: auto is chosen on a run's validation split; these weights come without their run")
    rows = run.rows("validation")
    probabilities = evaluator._predict(run.store, rows, classifier, batch_size, progress, "validation")
    targets = multilabel_targets(run.store.table, classifier.classes)[rows]
    return best_thresholds(targets, probabilities), "highest F1 of each finding on the validation split"


def _parts(subject: Subject, run: Run | None) -> pd.DataFrame:
    """Images and patients by part and finding present, the evaluated part among them."""
    if subject.own and run is not None:
        table = run.store.table
        sides = dict(zip(run.split["path"], run.split["split"], strict=True))
        part = table["path"].map(lambda path: sides.get(path, "none"))
    else:
        table, part = subject.table, pd.Series(subject.data.split, subject.table.index)
    names = subject.classifier.classes
    targets = multilabel_targets(table, names)
    order = [name for name in ("train", "validation", "test", "other", "none") if (part == name).any()]
    rows = []
    for name in order:
        own = (part == name).to_numpy()
        whole = np.ones(len(table), bool)
        members = [*((label, targets[:, k] == 1) for k, label in enumerate(names)), ("all", whole)]
        for label, present in members:
            patients = table.loc[own & present, "patient"] if "patient" in table else None
            known = None if patients is None or patients.isna().all() else int(patients.nunique())
            rows.append({"part": name, "finding": label, "images": int((own & present).sum()), "patients": known})
    return pd.DataFrame(rows)
