"""Evaluation of independent findings: what was found, as plain data, and its report."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from covidcxnet.datasets.vocabulary import independent_targets
from covidcxnet.evaluation.bootstrap import Bootstrap
from covidcxnet.evaluation.cases import Case
from covidcxnet.evaluation.cautions import Caution
from covidcxnet.evaluation.findings import Evaluation
from covidcxnet.evaluation.multilabel_cautions import finding_cautions
from covidcxnet.evaluation.multilabel_metrics import FindingMetrics, FindingPredictions, measure_findings
from covidcxnet.evaluation.multilabel_places import FindingPlaces, finding_places
from covidcxnet.evaluation.predicting import predict_subject, predict_validation
from covidcxnet.evaluation.record import circumstances, model_of, open_test
from covidcxnet.preparation import stack_statistics
from enhancement.errors import InputError

if TYPE_CHECKING:
    from covidcxnet.evaluation.report import Report
    from covidcxnet.evaluation.settings import EvaluationSettings
    from covidcxnet.evaluation.subject import Subject
    from covidcxnet.training import Run


@dataclass(frozen=True)
class MultilabelFindings(Evaluation):
    """One evaluation of independent findings, with figures by finding.

    Parameters
    ----------
    model, data, predictions, metrics, resamples, ..., created
        As in `findings.Evaluation`.
    parts : pd.DataFrame
        For each part of the data and finding: images, and patients where they are known, in which it is present.
    places : FindingPlaces or None
        Figures within single sources; None where no source is known.
    """

    predictions: FindingPredictions
    metrics: FindingMetrics
    parts: pd.DataFrame
    _: KW_ONLY
    places: FindingPlaces | None = None

    @property
    def cautions(self) -> list[Caution]:
        """What a reader must know before believing a figure, the gravest first."""
        return finding_cautions(self)

    def summary(self) -> str:
        """The headline as a few lines of plain text for a terminal."""
        from covidcxnet.evaluation.multilabel_page import summary

        return summary(self)

    def _images(self) -> dict[str, Any]:
        return {"parts": self.parts.to_dict("records")}

    def _figures(self) -> dict[str, Any]:
        metrics = self.metrics
        counts = ("present", "absent", "patients", "hits", "alarms", "misses", "passes", "threshold", "place_alone")
        return {
            "multilabel": True,
            "overall": {_MACRO.get(name, name): e.to_dict() for name, e in metrics.macro.items()},
            "by_class": {f.name: {name: e.to_dict() for name, e in f.figures.items()} for f in metrics.findings},
            "counts": {f.name: {name: getattr(f, name) for name in counts} for f in metrics.findings},
            "f1_zero": list(metrics.collapsed),
            "undefined": list(metrics.untested),
            "places": None if self.places is None else self.places.to_dict(),
        }


_MACRO = {"f1": "macro_f1"}


def evaluate_findings(
    subject: Subject, run: Run | None, folder: Path, settings: EvaluationSettings, commands: tuple[str, ...]
) -> Report:
    """Evaluate a classifier of independent findings and write the report; `commands` make it again.

    A threshold of 0.5, the default, stands for the thresholds that the weights bring, where they bring any; "auto"
    chooses them anew on the run's validation split.
    """
    from covidcxnet.evaluation.multilabel_page import write_findings_report

    classifier, table = subject.classifier, subject.table
    targets = independent_targets(table, classifier.classes)
    if np.isnan(targets).all():
        raise InputError(f"{subject.data.name}: none of {', '.join(classifier.classes)} is known of any image")
    cut, origin = _thresholds(subject, settings)
    probabilities = predict_subject(subject, settings)
    predictions = FindingPredictions(table, targets, probabilities, classifier.classes, cut)
    model = model_of(classifier)
    openings = open_test(subject, model.sha256, ",".join(f"{value:.5g}" for value in cut))
    draws = Bootstrap(predictions.column("patient"), len(predictions), resamples=settings.bootstrap, seed=settings.seed)
    metrics = measure_findings(predictions, draws)
    cases: tuple[Case, ...] = ()
    if settings.explain:
        from covidcxnet.evaluation.multilabel_cases import draw_finding_cases

        shown = (predictions, metrics, subject.store, subject.rows, classifier)
        cases = draw_finding_cases(*shown, progress=settings.progress)
    findings = MultilabelFindings(
        model=model,
        data=subject.data,
        predictions=predictions,
        metrics=metrics,
        parts=_parts(subject, run),
        resamples=settings.bootstrap,
        seed=settings.seed,
        unknown_patients=draws.unknown,
        threshold_from=origin,
        openings=openings,
        cases=cases,
        commands=commands,
        places=finding_places(
            predictions,
            draws,
            seen_sources=subject.data.trained_sources,
            trained_on=subject.trained_on,
            statistics=None
            if predictions.column("source") is None
            else stack_statistics(subject.store, subject.rows, settings.progress),
        ),
        **circumstances(run, classifier, settings.seed),
    )
    return write_findings_report(findings, folder)


def _thresholds(subject: Subject, settings: EvaluationSettings) -> tuple[np.ndarray, str]:
    """Threshold of each finding, float64 [K], and in words where they come from."""
    from covidcxnet.training.multilabel import best_thresholds

    classifier = subject.classifier
    if settings.threshold == 0.5:
        chosen = bool(classifier.metadata.get("thresholds"))
        said = "highest F1 of each finding on validation, stored with the weights"
        return classifier.thresholds, said if chosen else "0.5 for all: the weights bring none"
    if settings.threshold != "auto":
        return np.full(len(classifier.classes), float(settings.threshold)), "as asked for"
    store, rows, probabilities = predict_validation(subject, settings)
    targets = independent_targets(store.table, classifier.classes)[rows]
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
    targets = independent_targets(table, names)
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
